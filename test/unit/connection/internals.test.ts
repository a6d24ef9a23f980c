/** Which clients are moved by handoff: only those whose inside is all there. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Gate } from '../../../src/connection/handoff/gate.ts'
import { type ClientTransport, internalsOf } from '../../../src/connection/handoff/internals.ts'

describe('the inside of a client', () => {
  test('is not taken for ours when anything is missing', () => {
    for (const nc of [null, undefined, 7, {}, { protocol: null }, { protocol: { push() {} } }]) {
      assert.equal(internalsOf(nc), null)
    }
  })

  test('keeps frames back in their order, and lets them go once', () => {
    const sent: string[] = []
    const transport = (name: string) =>
      ({ send: (bytes: Uint8Array) => void sent.push(`${name} ${Buffer.from(bytes)}`) }) as ClientTransport
    const gate = new Gate(transport('first'), 1000)
    gate.send(Buffer.from('1'))
    gate.send(Buffer.from('2'))
    assert.deepEqual(sent, [])
    gate.release(transport('second'))
    gate.release(transport('first'))
    assert.deepEqual(sent, ['second 1', 'second 2'])
  })
})
