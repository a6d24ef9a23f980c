import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { readJoinToken } from '../../../cli/join-token.ts'

let dir: string
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rotor-token-'))
})
after(() => rm(dir, { recursive: true }))

test('the token of the environment is taken out of it, and a named source counts before it', async () => {
  process.env.ROTOR_JOIN_TOKEN = 'rotor1.environment'
  assert.equal(await readJoinToken(undefined), 'rotor1.environment')
  assert.equal(process.env.ROTOR_JOIN_TOKEN, undefined)
  assert.equal(await readJoinToken(undefined), undefined)
  process.env.ROTOR_JOIN_TOKEN = 'rotor1.environment'
  assert.equal(await readJoinToken('rotor1.argument'), 'rotor1.argument')
  assert.equal(process.env.ROTOR_JOIN_TOKEN, undefined)
})

test('a file is read whole; one that is missing, empty or no token at all is told', async () => {
  const file = join(dir, 'token')
  await writeFile(file, 'rotor1.file\n')
  assert.equal(await readJoinToken(file), 'rotor1.file\n')
  await assert.rejects(readJoinToken(join(dir, 'missing')), { code: 'ERR_IDENTITY_MISSING' })
  await writeFile(file, ' \n')
  await assert.rejects(readJoinToken(file), { code: 'ERR_JOIN_TOKEN' })
  await writeFile(file, 'x'.repeat(10_000))
  await assert.rejects(readJoinToken(file), { code: 'ERR_IDENTITY_INVALID' })
})
