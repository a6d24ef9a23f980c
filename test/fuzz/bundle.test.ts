/** What no one thought of: random, mutated and structured bytes get a RotorError, quickly, and nothing passes. */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import fc from 'fast-check'
import { type AcceptContext, acceptBundle } from '../../src/bundle/accept.ts'
import { openEnvelope, type Signer, signBundle } from '../../src/bundle/envelope.ts'
import { RotorError } from '../../src/errors.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import { type Json, partAt, pathsOf, withPart } from '../support/fuzz/json.ts'
import { makeTestDomain, type TestBundle, type TestDomain } from '../support/test-domain.ts'

const now = Date.UTC(2026, 10, 22, 12)
/** One bundle takes about a millisecond; a run that needs this long hangs. */
const PATIENCE = 2000

describe('bundles under fuzz', () => {
  let domain: TestDomain
  let bundle: TestBundle
  let context: AcceptContext
  before(async () => {
    domain = await makeTestDomain({ domain: 'prod', now })
    bundle = await domain.bundle()
    context = { domain: 'prod', pinned: [domain.signer.key], held: null, highest: 0, now }
  })

  /** The accepted payload, or null after a proper refusal. Anything else fails the test. */
  async function outcome(bytes: Uint8Array): Promise<BundlePayload | null> {
    const began = performance.now()
    try {
      return (await acceptBundle(bytes, context)).payload
    } catch (error) {
      assert.ok(RotorError.is(error), `expected a RotorError, found ${String(error)}`)
      assert.match(error.code, /^ERR_(BUNDLE_|CLOCK_SKEW)/)
      return null
    } finally {
      assert.ok(performance.now() - began < PATIENCE, 'took too long')
    }
  }

  it('refuses random bytes and random JSON', async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      fc.json({ maxDepth: 6 }).map((text) => Buffer.from(text)),
      fc.string({ unit: 'binary', maxLength: 500 }).map((text) => Buffer.from(text)),
    )
    await fc.assert(
      fc.asyncProperty(bytes, async (given) => assert.equal(await outcome(given), null)),
      { numRuns: 1500 },
    )
  })

  it('never accepts an envelope with bytes changed, removed, repeated or inserted as something else', async () => {
    const { envelope } = bundle
    const at = fc.nat(envelope.length)
    const edit = fc.record({ from: at, to: at, insert: fc.uint8Array({ maxLength: 20 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
        let bytes = Buffer.from(envelope)
        for (const { from, to, insert } of edits) {
          bytes = Buffer.concat([bytes.subarray(0, from), insert, bytes.subarray(to)])
        }
        const accepted = await outcome(bytes)
        // an edit may do nothing, or leave the same JSON with a space in it
        if (accepted !== null) assert.deepEqual(accepted, bundle.payload)
      }),
      { numRuns: 1500 },
    )
  })

  it('refuses a payload with any part replaced, when it is not signed again', async () => {
    const jws = JSON.parse(Buffer.from(bundle.envelope).toString())
    await fc.assert(
      fc.asyncProperty(mutated(bundle.payload), async (payload) => {
        const text = JSON.stringify(payload)
        fc.pre(text !== bundle.text)
        const forged = { ...jws, payload: Buffer.from(text).toString('base64url') }
        assert.equal(await outcome(Buffer.from(JSON.stringify(forged))), null)
      }),
      { numRuns: 1000 },
    )
  })

  it('survives a signer gone mad: payloads with any part replaced, properly signed', async () => {
    const by: Signer[] = [domain.signer]
    await fc.assert(
      fc.asyncProperty(mutated(bundle.payload), async (payload) => {
        const accepted = await outcome(await signBundle(JSON.stringify(payload), by))
        if (accepted === null) return
        // What passed is still ours, in time, and has an authority to sign.
        assert.equal(accepted.domain, 'prod')
        assert.ok(Date.parse(accepted.expiresAt) > now - accepted.schedule.lead)
        const trusted = new Set(domain.authorities.map(({ certificate }) => certificate.sha256))
        for (const { sha256 } of accepted.authorities) assert.ok(trusted.has(sha256))
        assert.ok(
          accepted.authorities.some(({ epoch, status }) => epoch === accepted.epoch && status === 'active'),
        )
      }),
      { numRuns: 1500 },
    )
  })

  it('survives payloads that are deep, wide or full of odd keys', async () => {
    const texts = [
      '['.repeat(100_000),
      `${'['.repeat(50_000)}${']'.repeat(50_000)}`,
      `{"v":1,"authorities":[${'{},'.repeat(50_000)}{}]}`,
      `{"v":1,"roots":[${'"-----BEGIN CERTIFICATE-----",'.repeat(5000)}""]}`,
      '{"__proto__":{"v":1},"constructor":1}',
      bundle.text.replace('{"v":1', '{"__proto__":{"domain":"x"},"v":2,"v":1'),
      `{"v":1${',"a":0'.repeat(20_000)}}`,
      '{"v":1e999}',
      `{"v":${'9'.repeat(10_000)}}`,
    ]
    for (const text of texts) {
      const bytes = await signBundle(text, [domain.signer])
      assert.equal(Buffer.from(openEnvelope(bytes).payload).toString(), text)
      const accepted = await outcome(bytes)
      if (accepted !== null) assert.deepEqual(accepted, bundle.payload)
    }
  })
})

/** The value with one part anywhere in it replaced, removed or doubled. */
function mutated(value: unknown): fc.Arbitrary<Json> {
  const original = JSON.parse(JSON.stringify(value)) as Json
  const paths = pathsOf(original)
  const interesting = fc.constantFrom<Json>(
    null,
    true,
    '',
    0,
    -1,
    1,
    2 ** 53,
    1e308,
    [],
    {},
    '9999-12-31T23:59:59.999Z',
    '\u0000',
    'x'.repeat(5000),
  )
  const replacement = fc.oneof(interesting, fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>)
  const kind = fc.constantFrom('replace', 'remove', 'double', 'damage', 'swap')
  return fc
    .tuple(fc.constantFrom(...paths), fc.constantFrom(...paths), kind, replacement, fc.nat(2000))
    .map(([path, other, how, given, at]) => {
      const found = partAt(original, path)
      if (how === 'remove') return withPart(original, path, undefined)
      if (how === 'double' && Array.isArray(found)) return withPart(original, path, [...found, ...found])
      if (how === 'swap') return withPart(original, path, partAt(original, other))
      if (how === 'damage' && typeof found === 'string' && found !== '') {
        const place = at % found.length
        return withPart(original, path, `${found.slice(0, place)}~${found.slice(place + 1)}`)
      }
      return withPart(original, path, given)
    })
}
