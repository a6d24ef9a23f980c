import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { type AcceptContext, acceptBundle } from '../../../src/bundle/accept.ts'
import { generateSigner, type Signer } from '../../../src/bundle/envelope.ts'
import { encodePayload } from '../../../src/bundle/payload.ts'
import type { RotorErrorCode } from '../../../src/errors.ts'
import { formatInstant } from '../../../src/time.ts'
import { type BundlePayload, MAX_BUNDLE_BYTES } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { DAY, LAST, makeStage, now, type Stage } from './stage.ts'

describe('a bundle is refused', () => {
  let stage: Stage
  let stranger: TestDomain
  let newSigner: Signer
  before(async () => {
    stage = await makeStage()
    stranger = await makeTestDomain({ domain: 'prod', now })
    newSigner = await generateSigner()
  })

  describe('for its form', () => {
    it('when it is larger than 256 KiB, even if it is signed', async () => {
      const { envelope } = await stage.domain.bundle()
      const padded = Buffer.concat([envelope, Buffer.alloc(MAX_BUNDLE_BYTES - envelope.length + 1, ' ')])
      await stage.refused(padded, 'ERR_BUNDLE_TOO_LARGE', /at most 262144 bytes, found 262145/)
      assert.ok(await acceptBundle(padded.subarray(0, MAX_BUNDLE_BYTES), stage.context))
    })

    it('when it is truncated at any length', async () => {
      const { envelope } = await stage.domain.bundle()
      for (let length = 0; length < envelope.length; length += 97) {
        await stage.refused(envelope.subarray(0, length), 'ERR_BUNDLE_MALFORMED', /bundle envelope: /)
      }
    })

    it('when the payload is no JSON, no object, or does not fit the schema', async () => {
      const malformed = 'ERR_BUNDLE_MALFORMED'
      for (const text of [
        '{',
        'null',
        '[]',
        '"v"',
        '\ufeff{}',
        '{"v":1}',
        '{"v":"1"}',
        '{"v":null}',
        '['.repeat(50_000),
      ]) {
        await stage.refused(await stage.signedText(text), malformed, /bundle/)
      }
      const good = stage.domain.payload()
      const bad: Record<string, unknown>[] = [
        { version: 0 },
        { version: 1.5 },
        { version: 2 ** 53 },
        { issuedAt: 'yesterday' },
        { issuedAt: '2026-02-30T00:00:00.000Z' },
        { previous: 'abc' },
        { authorities: [] },
        { authorities: {} },
        { roots: [] },
        { roots: ['hello'] },
        { signers: [] },
        { signers: [{ ...good.signers[0], crv: 'X25519' }] },
        { schedule: { ...good.schedule, lead: -1 } },
      ]
      for (const change of bad) {
        await stage.refused(
          await stage.signedText(JSON.stringify({ ...good, ...change })),
          malformed,
          new RegExp(Object.keys(change)[0] ?? ''),
        )
      }
    })

    it('when its schedule can not work, or a version above 1 has no predecessor', async () => {
      const { schedule } = stage.domain.payload()
      await stage.refused(
        await stage.signed({ schedule: { ...schedule, lead: schedule.epochDuration } }),
        'ERR_BUNDLE_MALFORMED',
        /lead: expected/,
      )
      await stage.refused(
        await stage.signed({ version: 2 }),
        'ERR_BUNDLE_MALFORMED',
        /previous: expected null in version 1/,
      )
      await stage.refused(
        await stage.signed({ previous: 'a'.repeat(64) }),
        'ERR_BUNDLE_MALFORMED',
        /previous/,
      )
    })

    it('when its format version is unknown, whatever else is in it', async () => {
      for (const v of [2, 0, -1, 1.5, 1e9]) {
        const text = JSON.stringify({ v, anything: true })
        await stage.refused(
          await stage.signedText(text),
          'ERR_BUNDLE_VERSION_UNKNOWN',
          /expected format 1, found/,
        )
      }
    })
  })

  describe('for its signatures', () => {
    it('when it is forged: signed by nobody we pinned, although it names our signer', async () => {
      const forged = await stage.domain.bundle({}, { by: [newSigner] })
      await stage.refused(forged.envelope, 'ERR_BUNDLE_SIGNATURE', /expected a signature by one of/)
      await stage.refused(forged.envelope, 'ERR_BUNDLE_SIGNATURE', /no pinned signers/, { pinned: [] })
    })

    it('when the payload was exchanged under a good signature', async () => {
      const good = JSON.parse(Buffer.from((await stage.domain.bundle()).envelope).toString())
      const other = JSON.parse(
        Buffer.from((await stage.domain.bundle({ reason: 'evil' })).envelope).toString(),
      )
      const mixed = Buffer.from(JSON.stringify({ ...good, payload: other.payload }))
      await stage.refused(mixed, 'ERR_BUNDLE_SIGNATURE', /found none/)
    })

    it('when a pinned key is not what its kid says', async () => {
      const { envelope } = await stage.domain.bundle({}, { by: [newSigner] })
      const pinned = [{ ...newSigner.key, kid: stage.domain.signer.key.kid }]
      await stage.refused(envelope, 'ERR_BUNDLE_SIGNATURE', /found none/, { pinned })
    })

    it('when it names a new signer that has not signed it, alone or beside the old one', async () => {
      for (const signers of [[newSigner.key], [stage.domain.signer.key, newSigner.key]]) {
        await stage.refused(
          await stage.signed({ signers }),
          'ERR_BUNDLE_SIGNER_CHANGE',
          /new signer .* has not signed/,
        )
      }
      const byBoth = await stage.domain.bundle(
        { signers: [newSigner.key] },
        { by: [stage.domain.signer, newSigner] },
      )
      assert.ok(await acceptBundle(byBoth.envelope, stage.context))
      const onlyNew = await stage.domain.bundle({ signers: [newSigner.key] }, { by: [newSigner] })
      await stage.refused(onlyNew.envelope, 'ERR_BUNDLE_SIGNATURE', /found none/)
    })

    it('when the name of a signer is not the thumbprint of its key, or one is listed twice', async () => {
      const renamed = { ...newSigner.key, kid: stage.domain.signer.key.kid }
      await stage.refused(
        await stage.signed({ signers: [renamed] }),
        'ERR_BUNDLE_SIGNER_CHANGE',
        /is not the thumbprint/,
      )
      const twice = [stage.domain.signer.key, stage.domain.signer.key]
      await stage.refused(await stage.signed({ signers: twice }), 'ERR_BUNDLE_SIGNER_CHANGE', /listed twice/)
    })
  })

  describe('for its place in the history', () => {
    it('when it is for another domain', async () => {
      await stage.refused(
        await stage.signed({ domain: 'staging' }),
        'ERR_BUNDLE_DOMAIN',
        /expected domain "prod", found "staging"/,
      )
    })

    it('when it is replayed: the version is not above the highest ever accepted', async () => {
      const { envelope } = await stage.domain.bundle({ version: 7, previous: 'a'.repeat(64) })
      for (const highest of [7, 8, 2 ** 40]) {
        await stage.refused(envelope, 'ERR_BUNDLE_REPLAYED', /expected a version above \d+, found 7/, {
          highest,
        })
      }
      assert.ok(await acceptBundle(envelope, { ...stage.context, highest: 6 }))
    })

    it('when it is the successor of another bundle than the one we hold', async () => {
      const first = await stage.domain.bundle()
      const fork = await stage.domain.bundle({ reason: 'other' })
      const { envelope } = await stage.domain.bundle({}, { after: fork })
      const held = { version: 1, digest: first.digest }
      await stage.refused(envelope, 'ERR_BUNDLE_FORKED', new RegExp(first.digest), { held, highest: 1 })
      assert.ok(
        await acceptBundle(envelope, {
          ...stage.context,
          held: { version: 1, digest: fork.digest },
          highest: 1,
        }),
      )
    })

    it('when it has expired, or comes from the future', async () => {
      const long = { issuedAt: formatInstant(now - 2 * DAY), expiresAt: formatInstant(now - DAY) }
      await stage.refused(await stage.signed(long), 'ERR_BUNDLE_EXPIRED', /expired at 2026-11-21/)
      await stage.refused(
        await stage.signed({ issuedAt: formatInstant(now + DAY / 2) }),
        'ERR_CLOCK_SKEW',
        /issued at 2026-11-23/,
      )
    })
  })

  it('by the first rule it breaks, whatever it breaks besides', async () => {
    const sharing = stage.domain.entry({
      epoch: LAST,
      certificate: await stage.authorityFor(stage.domain.authority().keyPair),
    })
    interface Attempt {
      payload: BundlePayload
      by: Signer[]
      context: AcceptContext
    }
    const breaks: [RotorErrorCode, (attempt: Attempt) => void][] = [
      [
        'ERR_BUNDLE_SIGNATURE',
        (a) => {
          a.by = [stranger.signer]
        },
      ],
      [
        'ERR_BUNDLE_SIGNER_CHANGE',
        (a) => {
          a.payload.signers = [newSigner.key]
        },
      ],
      [
        'ERR_BUNDLE_DOMAIN',
        (a) => {
          a.payload.domain = 'other'
        },
      ],
      [
        'ERR_BUNDLE_REPLAYED',
        (a) => {
          a.context = { ...a.context, highest: 5 }
        },
      ],
      [
        'ERR_BUNDLE_FORKED',
        (a) => {
          a.context = { ...a.context, held: { version: 4, digest: 'b'.repeat(64) } }
        },
      ],
      [
        'ERR_BUNDLE_EXPIRED',
        (a) => {
          a.payload.expiresAt = formatInstant(now - DAY)
        },
      ],
      [
        'ERR_CLOCK_SKEW',
        (a) => {
          a.payload.issuedAt = formatInstant(now + DAY)
        },
      ],
      [
        'ERR_BUNDLE_AUTHORITY',
        (a) => {
          a.payload.authorities = a.payload.authorities.map((one) => ({ ...one, sha256: 'c'.repeat(64) }))
        },
      ],
      [
        'ERR_BUNDLE_CHAIN',
        (a) => {
          a.payload.roots = [stranger.root.certificate.pem]
        },
      ],
      [
        'ERR_BUNDLE_KEY_REUSED',
        (a) => {
          a.payload.authorities = [...a.payload.authorities, sharing]
        },
      ],
      [
        'ERR_BUNDLE_SIGNING_EPOCH',
        (a) => {
          a.payload.epoch = 1
        },
      ],
    ]
    for (const [i, [code, first]] of breaks.entries()) {
      for (const [, later] of [['alone', () => {}] as const, ...breaks.slice(i + 1)]) {
        const payload = stage.domain.payload({ version: 5, previous: 'a'.repeat(64) })
        const attempt: Attempt = {
          payload,
          by: [stage.domain.signer],
          context: { ...stage.context, highest: 4 },
        }
        first(attempt)
        later(attempt)
        const bytes = await stage.signedText(encodePayload(attempt.payload), attempt.by)
        await stage.refused(bytes, code, /./, attempt.context)
      }
    }
  })

  it('without a trace: the next good one is accepted with the same context', async () => {
    const good = await stage.domain.bundle()
    await stage.refused(await stage.signed({ domain: 'staging' }), 'ERR_BUNDLE_DOMAIN', /./)
    assert.equal((await acceptBundle(good.envelope, stage.context)).digest, good.digest)
  })
})
