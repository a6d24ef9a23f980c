/**
 * An authority that was taken back leaves trust, although a control connection was dialled with a leaf of it: 1. a service's
 * agent loses its connection while its target proves the new leaf, and dials with that. 2. The target does not take it, the old
 * generation is back, and the issuer rolls back. 3. Nobody stands on the authority any more.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Target, TargetContext } from '../../agent/index.ts'
import { RotorError } from '../../src/errors.ts'
import { RunningDomain } from '../support/running-domain.ts'

class Refusing implements Target {
  readonly type = 'refusing'
  readonly name = 'refusing'
  readonly exclusive = false
  readonly #good: string
  /** Leaves it was asked to prove, and refused. */
  readonly refused = new Set<string>()

  constructor(good: string) {
    this.#good = good
  }

  async check(): Promise<void> {}

  async notify(): Promise<void> {}

  async prove({ identity, nc }: TargetContext) {
    const { sha256 } = identity.leaf
    if (sha256 === this.#good) return { type: this.type, name: this.name, ok: true, evidence: 'as before' }
    const statuses = nc.status()
    await nc.reconnect()
    for await (const { type } of statuses) if (type === 'reconnect') break
    this.refused.add(sha256)
    throw new RotorError('ERR_PROOF_FAILED', 'refused by the test')
  }
}

test('a control connection that was dialled with what was put back does not keep its authority in trust', {
  timeout: 120_000,
}, async () => {
  await using domain = await RunningDomain.start({
    services: [{ name: 'orders' }],
    policy: { retireAfter: '0s' },
  })
  const before = await domain.identity('orders')
  const target = new Refusing(before.leaf.sha256)
  await domain.startIssuer()
  await domain.startAgent('nats-1')
  // 1. and 2.
  await domain.startAgent('orders', [target])
  await domain.settled()
  await domain.order()
  // 3. the issuer has taken it back, and it has left trust
  const now = await domain.settled(
    undefined,
    ({ version, authorities }) => version > 3 && authorities.length === 1,
  )
  assert.equal(now.active, 0)
  assert.ok(target.refused.size > 0)
  assert.equal((await domain.identity('orders')).leaf.sha256, before.leaf.sha256)
})
