import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { bootstrap } from '../../../src/rotation/advance.ts'
import { following } from '../../../src/rotation/payloads.ts'
import { rotationState } from '../../../src/rotation/state.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import {
  at,
  bundleIn,
  decide,
  expectWait,
  genesis,
  genesisPayload,
  held,
  hex,
} from '../../support/rotation-world.ts'

test('the first bundle makes a steady state that signs with its epoch', () => {
  const state = genesis(100)
  assert.deepEqual(rotationState.parse(state), state)
  assert.equal(state.phase, 'steady')
  assert.equal(state.active, 100)
  assert.equal(state.version, 1)
  assert.equal(state.fence, 7)
  assert.equal(state.digest, hex(state.payload))
  expectWait(decide(state, at(100, 1), { published: 0 }), 'not-published')
})

test('refuses a first bundle that is not the first one of this domain', () => {
  const first = genesisPayload(100)
  const { certificate, sha256 } = held(101)
  const cases: [BundlePayload, RegExp][] = [
    [{ ...first, domain: 'test' }, /domain: expected prod, found test/],
    [{ ...first, version: 2 }, /version: expected 1, found 2/],
    [{ ...first, previous: hex('x') }, /previous: expected null/],
    [{ ...first, epoch: 101 }, /expected epoch 101 and no other to be active, found 100/],
    [
      {
        ...first,
        authorities: [...first.authorities, { epoch: 101, status: 'prepared' as const, certificate, sha256 }],
      },
      /authorities: expected the one that signs, found 2/,
    ],
  ]
  for (const [payload, message] of cases) {
    assert.throws(() => bootstrap({ domain: 'prod', payload: encodePayload(payload), fence: 0 }, at(100)), {
      code: 'ERR_RECORD_INVALID',
      message,
    })
  }
  assert.throws(() => bootstrap({ domain: 'prod', payload: 'x', fence: 0 }, at(100)), {
    code: 'ERR_RECORD_INVALID',
  })
})

test('makes no bundle that agents would refuse', () => {
  const state = genesis(100)
  const bundle = bundleIn(state)
  const [only] = bundle.authorities
  assert.ok(only)
  const make = (epoch: number, authorities: typeof bundle.authorities) =>
    following(state, bundle, { epoch, authorities, roots: bundle.roots, reason: 'test' }, at(100))
  assert.throws(() => make(101, [only]), { code: 'ERR_INTERNAL', message: /expected epoch 101 .* found 100/ })
  assert.throws(() => make(100, [only, only]), {
    code: 'ERR_INTERNAL',
    message: /one epoch twice in 100, 100/,
  })
  assert.throws(() => make(100, [{ ...only, status: 'retiring' }]), {
    code: 'ERR_INTERNAL',
    message: /found none/,
  })
  assert.throws(
    () => following(state, bundle, { epoch: 100, authorities: [only], roots: [], reason: 'test' }, at(100)),
    { code: 'ERR_INTERNAL', message: /roots: expected at least one, found none/ },
  )
})
