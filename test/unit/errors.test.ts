import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { ERRORS, RotorError } from '../../src/errors.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

test('docs/errors.md lists each code with its exit code, meaning and action, and no other', () => {
  const page = readFileSync(join(root, 'docs/errors.md'), 'utf8')
  const rows = page
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => /^`ERR_/.test(cells[1] ?? ''))
    .map(([, code = '', ...cells]) => [code.replaceAll('`', ''), ...cells.slice(0, 3)])
  const expected = Object.entries(ERRORS).map(([code, e]) => [code, String(e.exit), e.means, e.action])
  assert.deepEqual(rows, expected)
})

test('every code is thrown somewhere', () => {
  const sources = globSync('{src,agent,issuer,cli,demo}/**/*.ts', { cwd: root })
    .filter((file) => file !== join('src', 'errors.ts'))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n')
  const unused = Object.keys(ERRORS).filter((code) => !sources.includes(`'${code}'`))
  assert.deepEqual(unused, [])
})

test('an error of another copy of the package is one of ours', () => {
  const foreign = Object.assign(new Error('x'), { code: 'ERR_USAGE', [Symbol.for('nats-rotor.error')]: true })
  assert.equal(RotorError.is(foreign), true)
  assert.equal(RotorError.is(new Error('x')), false)
})

test('from keeps our errors, wraps others with code and context, and keeps the cause', () => {
  const ours = new RotorError('ERR_USAGE', 'wrong')
  assert.equal(RotorError.from(ours, 'ERR_INTERNAL'), ours)
  const cause = new TypeError('bad')
  const wrapped = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', 'dialling')
  assert.equal(wrapped.code, 'ERR_NATS_UNAVAILABLE')
  assert.equal(wrapped.message, 'dialling: bad')
  assert.equal(wrapped.cause, cause)
  assert.equal(wrapped.exitCode, 69)
})
