/** When does a missing answer become a reason to look for it elsewhere? */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { RotorError } from '../../src/errors.ts'
import { withLast } from '../../src/nats/connect.ts'
import { Silence } from '../../src/tasks.ts'

const missing = new RotorError('ERR_NATS_UNAVAILABLE', 'no answer')
const other = new RotorError('ERR_STATE_CONFLICT', 'somebody was faster')

describe('missing answers in a row', () => {
  test('the second one is a reason to move, then ever fewer are', () => {
    const silence = new Silence()
    const reasons = Array.from({ length: 20 }, (_, i) => (silence.count(missing) ? i + 1 : 0))
    assert.deepEqual(
      reasons.filter((n) => n > 0),
      [2, 4, 8, 16],
    )
  })

  test('an answer, or a failure of another kind, begins the count anew', () => {
    const silence = new Silence()
    assert.equal(silence.count(missing), false)
    silence.reset()
    assert.equal(silence.count(missing), false)
    assert.equal(silence.count(other), false)
    assert.equal(silence.count(missing), false)
    assert.equal(silence.count(missing), true)
  })
})

test('the server to avoid is the last choice, with or without a scheme, and never lost', () => {
  const servers = ['tls://a:4222', 'b:4222', 'tls://c:4222']
  assert.deepEqual(withLast(servers, 'a:4222'), ['b:4222', 'tls://c:4222', 'tls://a:4222'])
  assert.deepEqual(withLast(servers, 'b:4222'), ['tls://a:4222', 'tls://c:4222', 'b:4222'])
  assert.deepEqual(withLast(servers, 'elsewhere:4222'), servers)
  assert.deepEqual(withLast(servers, undefined), servers)
})
