/** A life with login, rotation, failure and shutdown; then everything that was said is searched for secrets. */
import assert from 'node:assert/strict'
import { glob, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { jetstream } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { ChildEvent } from '../../demo/child.ts'
import { makeLocalDomain } from '../../demo/domain.ts'
import { asOperator } from '../../src/domain/operator.ts'
import { rotor } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'

const PASSPHRASE = 'a-passphrase-nobody-else-has'
const patient = { timeout: 60_000 }

/** Where something was said, and what. */
type Words = Map<string, string>

test('no secret is in a log, an event, an answer, a record or an argument of a process', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-secrets-'))
  try {
    const passphraseFile = join(dir, 'passphrase')
    await writeFile(passphraseFile, PASSPHRASE, { mode: 0o600 })
    const events: ChildEvent[] = []
    const words: Words = new Map()
    let secrets: string[]
    {
      await using domain = await makeLocalDomain({
        epochDuration: 8_000,
        schedule: { validity: 60_000 },
        servers: 1,
        services: [{ name: 'orders' }],
        authority: 'openbao',
        passphraseFile,
        dir,
        onEvent: (event) => events.push(event),
      })
      const { openBao, founded } = domain
      assert.ok(openBao !== null)
      await domain.startServers()
      await domain.startIssuer(['--log-level', 'trace'])
      for (const name of ['nats-1', 'orders']) await domain.startAgent(name, ['--log-level', 'trace'])
      const status = async () => {
        const { stdout, stderr, code } = await rotor('status', '--config', founded.issuerConfig, '--json')
        words.set(`rotor status ${words.size}`, stdout + stderr)
        return { code, ...JSON.parse(stdout) }
      }
      const active = async () => (await status()).active
      const began = await eventually(async () => (await active()) >= 0 && String(await active()), patient)
      await eventually(async () => (await active()) > Number(began), patient)
      const lines = await commandLines()
      assert.ok(lines.includes('issuer.json') && lines.includes('bao'))
      words.set('/proc/*/cmdline', lines)

      await openBao.bao.seal()
      const stuck = await eventually(async () => {
        const found = await status()
        return found.problem === null ? null : found
      }, patient)
      assert.deepEqual([stuck.problem.code, stuck.code], ['ERR_AUTHORITY_UNAVAILABLE', 1])
      await openBao.bao.unseal()
      await eventually(async () => (await status()).problem === null, patient)

      words.set('records', await records(founded.issuerConfig))
      secrets = [
        ...openBao.bao.secrets,
        PASSPHRASE,
        (await readFile(join(openBao.bao.dir, 'secret-id'), 'utf8')).trim(),
        ...(await privateKeys(domain.dir)),
      ]
      await domain.children.get('issuer')?.stop()
    }
    words.set('events', JSON.stringify(events))
    for (const file of await readdir(join(dir, 'logs')))
      words.set(file, await readFile(join(dir, 'logs', file), 'utf8'))
    words.set('bao.log', await readFile(join(dir, 'openbao', 'bao.log'), 'utf8'))

    assert.ok(secrets.length > 6)
    assert.match(
      words.get('issuer.log') ?? '',
      /OpenBao or Vault: ready.*tokenEnds|tokenEnds.*OpenBao or Vault: ready/,
    )
    assert.match(words.get('issuer.log') ?? '', /is sealed/)
    for (const [where, text] of words) {
      for (const [i, secret] of secrets.entries())
        assert.ok(!text.includes(secret), `secret ${i} of ${secrets.length} is in ${where}`)
      // the tokens of our logins, whatever they are (OpenBao: "s." and 24 characters)
      assert.ok(!/\b(s|b|hvs|hvb)\.[A-Za-z0-9_-]{20,}/.test(text), `a token is in ${where}`)
      assert.ok(!text.includes('PRIVATE KEY'), `a private key is in ${where}`)
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

async function commandLines(): Promise<string> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.join('\n')
}

/** Every value of the buckets of the domain. */
function records(issuerConfig: string): Promise<string> {
  return asOperator(issuerConfig, async ({ nc, names }) => {
    const kvm = new Kvm(jetstream(nc))
    const texts: string[] = []
    for (const name of [names.stateBucket, names.statusBucket]) {
      const bucket = await kvm.open(name)
      for await (const key of await bucket.keys()) texts.push((await bucket.get(key))?.string() ?? '')
    }
    assert.ok(texts.length > 3)
    return texts.join('\n')
  })
}

/** A line out of the middle of every private key on the disk. */
async function privateKeys(dir: string): Promise<string[]> {
  const lines: string[] = []
  for await (const file of glob('**/*.key', { cwd: dir })) {
    const text = await readFile(join(dir, file), 'utf8')
    lines.push(text.split('\n')[1] ?? '')
  }
  assert.ok(lines.every((line) => line.length > 20))
  return lines
}
