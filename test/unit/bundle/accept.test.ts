import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { type AcceptContext, acceptBundle, type HeldBundle } from '../../../src/bundle/accept.ts'
import { generateSigner } from '../../../src/bundle/envelope.ts'
import { RotorError } from '../../../src/errors.ts'
import { formatInstant } from '../../../src/time.ts'
import { authorityStatus } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestBundle, type TestDomain } from '../../support/test-domain.ts'

const now = Date.UTC(2026, 10, 22, 12)

const held = ({ payload, digest }: TestBundle): HeldBundle => ({
  version: payload.version,
  digest,
  roots: payload.roots,
})

describe('accepting a bundle', () => {
  let domain: TestDomain
  let context: AcceptContext
  before(async () => {
    domain = await makeTestDomain({ domain: 'prod', now, epochs: [83117, 83118, 83119] })
    context = { domain: 'prod', pinned: [domain.signer.key], held: null, highest: 0, now }
  })

  it('gives back exactly what was signed, with the certificates read', async () => {
    const bundle = await domain.bundle({ reason: 'Zoë rotates' })
    const accepted = await acceptBundle(bundle.envelope, context)
    assert.deepEqual(accepted.payload, bundle.payload)
    assert.equal(accepted.text, bundle.text)
    assert.equal(accepted.digest, bundle.digest)
    assert.deepEqual(accepted.signers, [domain.signer.key])
    assert.deepEqual(
      accepted.authorities.map(({ epoch, status, certificate }) => [epoch, status, certificate.sha256]),
      bundle.payload.authorities.map(({ epoch, status, sha256 }) => [epoch, status, sha256]),
    )
    assert.deepEqual(
      accepted.roots.map(({ sha256 }) => sha256),
      [domain.root.certificate.sha256],
    )
  })

  it('accepts the successor of the bundle we hold, and any later one when versions were skipped', async () => {
    const first = await domain.bundle()
    const second = await domain.bundle({ reason: 'second' }, { after: first })
    const third = await domain.bundle({ reason: 'third' }, { after: second })
    for (const next of [second, third]) {
      const accepted = await acceptBundle(next.envelope, { ...context, held: held(first), highest: 1 })
      assert.equal(accepted.payload.version, next.payload.version)
    }
  })

  it('accepts a rollback: a higher version that signs with an earlier epoch', async () => {
    const first = await domain.bundle()
    const [older, newer, coming] = domain.authorities
    assert.ok(older !== undefined && newer !== undefined && coming !== undefined)
    const authorities = [domain.entry(older, 'active'), domain.entry(newer, 'tainted'), domain.entry(coming)]
    const back = await domain.bundle({ epoch: older.epoch, authorities }, { after: first })
    const accepted = await acceptBundle(back.envelope, { ...context, held: held(first), highest: 1 })
    assert.equal(accepted.payload.epoch, older.epoch)
  })

  it('follows the signers from one key to the next, and refuses the old one afterwards', async () => {
    const next = await generateSigner()
    const first = await domain.bundle()
    const both = await domain.bundle({ signers: [next.key] }, { after: first, by: [domain.signer, next] })
    const accepted = await acceptBundle(both.envelope, { ...context, held: held(first), highest: 1 })
    assert.deepEqual(accepted.signers, [next.key])

    const later = { ...context, pinned: accepted.signers, held: held(both), highest: 2 }
    const byOld = await domain.bundle({ signers: [next.key] }, { after: both })
    await assert.rejects(acceptBundle(byOld.envelope, later), { code: 'ERR_BUNDLE_SIGNATURE' })
    const byNew = await domain.bundle({ signers: [next.key] }, { after: both, by: [next] })
    assert.equal((await acceptBundle(byNew.envelope, later)).payload.version, 3)
    // an old key that goes on signing for agents that slept does no harm
    const byBoth = await domain.bundle({ signers: [next.key] }, { after: both, by: [next, domain.signer] })
    assert.equal((await acceptBundle(byBoth.envelope, later)).payload.version, 3)
  })

  it('allows a difference of the clocks up to the lead, or as much as it is told', async () => {
    const { lead } = domain.schedule
    const ends = now + 1000
    const { envelope } = await domain.bundle({ expiresAt: formatInstant(ends), issuedAt: formatInstant(now) })
    const at = (time: number, skew?: number) =>
      acceptBundle(envelope, { ...context, now: time, ...(skew === undefined ? {} : { skew }) })
    await at(ends + lead - 1)
    await assert.rejects(at(ends + lead), { code: 'ERR_BUNDLE_EXPIRED' })
    await at(ends + 9, 10)
    await assert.rejects(at(ends + 10, 10), { code: 'ERR_BUNDLE_EXPIRED' })
    await at(now - lead)
    await assert.rejects(at(now - lead - 1), { code: 'ERR_CLOCK_SKEW' })
  })

  it('works for a domain of any key algorithm', async () => {
    for (const algorithm of ['P-384', 'Ed25519', 'RSA-3072'] as const) {
      const other = await makeTestDomain({ domain: 'prod', now, algorithm })
      const { envelope } = await other.bundle()
      await acceptBundle(envelope, { ...context, pinned: [other.signer.key] })
    }
  })

  it('accepts every valid bundle that was signed, whatever it says', async () => {
    const status = fc.constantFrom(...authorityStatus.options.filter((one) => one !== 'active'))
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          reason: fc.string({ unit: 'grapheme', maxLength: 300 }),
          statuses: fc.array(status, { minLength: 3, maxLength: 3 }),
          signing: fc.nat(2),
          version: fc.integer({ min: 2, max: 2 ** 40 }),
          lifetime: fc.integer({ min: 1, max: 10 ** 12 }),
        }),
        async ({ reason, statuses, signing, version, lifetime }) => {
          const authorities = domain.authorities.map((authority, i) =>
            domain.entry(authority, i === signing ? 'active' : statuses[i]),
          )
          const epoch = authorities[signing]?.epoch ?? 0
          const expiresAt = formatInstant(now + lifetime)
          const previous = 'a'.repeat(64)
          const bundle = await domain.bundle({ reason, version, previous, epoch, authorities, expiresAt })
          const accepted = await acceptBundle(bundle.envelope, { ...context, highest: version - 1 })
          assert.equal(accepted.text, bundle.text)
          assert.deepEqual(accepted.payload, bundle.payload)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('refuses the envelope with any single byte changed', async () => {
    const { envelope } = await domain.bundle()
    await fc.assert(
      fc.asyncProperty(fc.nat(envelope.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
        const damaged = Buffer.from(envelope)
        damaged.writeUInt8(damaged.readUInt8(at) ^ mask, at)
        await assert.rejects(acceptBundle(damaged, context), (error) => RotorError.is(error))
      }),
      { numRuns: 1500 },
    )
  })

  it('with two signatures, a changed byte may spoil one of them but never changes what is accepted', async () => {
    const other = await generateSigner()
    const bundle = await domain.bundle({}, { by: [domain.signer, other] })
    await fc.assert(
      fc.asyncProperty(
        fc.nat(bundle.envelope.length - 1),
        fc.integer({ min: 1, max: 255 }),
        async (at, mask) => {
          const damaged = Buffer.from(bundle.envelope)
          damaged.writeUInt8(damaged.readUInt8(at) ^ mask, at)
          const outcome = await acceptBundle(damaged, context).catch((error: unknown) => error)
          if (!RotorError.is(outcome)) assert.deepEqual(outcome, await acceptBundle(bundle.envelope, context))
        },
      ),
      { numRuns: 300 },
    )
  })
})
