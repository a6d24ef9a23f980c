/** Headers from a file: what is taken, what is refused by its line, and that no line is ever shown. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { readHeaders } from '../../../../agent/targets/headers.ts'
import { RotorError } from '../../../../src/errors.ts'

describe('a file of headers', () => {
  let file: string
  before(async () => {
    file = join(await mkdtemp(join(tmpdir(), 'rotor-headers-')), 'headers')
  })
  after(() => rm(join(file, '..'), { recursive: true, force: true }))
  const read = async (text: string) => {
    await writeFile(file, text)
    return readHeaders(file)
  }

  test('has a header on each line; empty lines and comments do not count', async () => {
    const text = '# for the gateway\nAuthorization: Bearer abc:def==\r\n\nX-Tenant:prod \nHost: orders.test'
    assert.deepEqual(await read(text), {
      authorization: 'Bearer abc:def==',
      'x-tenant': 'prod',
      host: 'orders.test',
    })
    assert.deepEqual(await read(''), {})
  })

  for (const [what, text, line] of [
    ['a line without a name', 'X-A: 1\nhunter2', 2],
    ['a name with a space', 'X A hunter2: 1', 1],
    ['a name that is no token', 'X(hunter2): 1', 1],
    ['an empty value', 'X-Hunter2:', 1],
    ['a control character', 'X-A: hunter2\u0000', 1],
    ['a header beyond Latin-1', 'X-A: hunter2\u4e2d', 1],
    ['a name twice', 'X-A: hunter2\nx-a: hunter2', 2],
    ['a header that ends a message', 'X-A: 1\nTransfer-Encoding: hunter2', 2],
    ['a length', 'content-length: 72', 1],
    ['too much', `X-A: hunter2${'a'.repeat(17_000)}`, 1],
  ] as const) {
    test(`with ${what} is refused, the line is named and not shown`, async () => {
      await assert.rejects(read(text), (error) => {
        assert.ok(RotorError.is(error))
        assert.equal(error.code, 'ERR_CONFIG_INVALID')
        assert.match(error.message, new RegExp(`line ${line}:`))
        assert.doesNotMatch(error.message, /hunter2/i)
        return true
      })
    })
  }

  test('that is not there is refused by name', async () => {
    await assert.rejects(readHeaders(`${file}-none`), {
      code: 'ERR_CONFIG_INVALID',
      message: /headersFile: ENOENT/,
    })
  })

  test('of any content is read or refused, never more', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 200 }), async (text) => {
        try {
          for (const [name, value] of Object.entries(await read(text))) {
            assert.match(name, /^[^\s:]+$/)
            assert.ok(value.length > 0)
          }
        } catch (error) {
          assert.ok(RotorError.is(error), String(error))
        }
      }),
      { numRuns: 100 },
    )
  })
})
