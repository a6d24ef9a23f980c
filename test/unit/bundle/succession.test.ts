import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { acceptBundle } from '../../../src/bundle/accept.ts'
import { generateSigner, type Signer, signBundle, signText } from '../../../src/bundle/envelope.ts'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { extended, followed, formerSigners, vouch, withoutLinksTo } from '../../../src/bundle/succession.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'

describe('the succession of signers', () => {
  const now = Date.now()
  let domain: TestDomain
  let first: Signer
  let second: Signer
  let third: Signer
  let links: string[]
  before(async () => {
    domain = await makeTestDomain({ now })
    first = domain.signer
    ;[second, third] = await Promise.all([generateSigner(), generateSigner('ml-dsa-65')])
    links = [await vouch(domain.domain, first, second), await vouch(domain.domain, second, third)]
  })

  /** A bundle of the domain by these signers. */
  const bundle = (by: readonly Signer[], change: Partial<BundlePayload> = {}) =>
    signBundle(encodePayload(domain.payload({ signers: by.map(({ key }) => key), ...change })), by)
  const accept = (bytes: Uint8Array, pinned: readonly Signer[]) =>
    acceptBundle(bytes, {
      domain: domain.domain,
      pinned: pinned.map(({ key }) => key),
      held: null,
      highest: 0,
      now,
    })

  it('lets who knows only the first signer accept a bundle of the third, and pins that one then', async () => {
    const newest = await bundle([third], { succession: links })
    for (const pinned of [[first], [second], [third]]) {
      assert.deepEqual((await accept(newest, pinned)).signers, [third.key])
    }
  })

  it('is needed for that: without it, or with a part of it, the bundle is by a stranger', async () => {
    await assert.rejects(accept(await bundle([third]), [first]), { code: 'ERR_BUNDLE_SIGNATURE' })
    for (const part of links) {
      const envelope = await bundle([third], { succession: [part] })
      await assert.rejects(accept(envelope, [first]), { code: 'ERR_BUNDLE_SIGNATURE' })
    }
  })

  it('counts only by both signatures, for this domain, in its own form', async () => {
    const thief = await generateSigner()
    const words = (key: Signer) =>
      JSON.stringify({ v: 1, domain: domain.domain, from: first.key, key: key.key })
    const typ = 'rotor-signer+json'
    const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString()
    const bad = {
      'not by the old one': textOf(await signText(words(thief), [thief], typ)),
      'not by the new one': textOf(await signText(words(thief), [first], typ)),
      'for another domain': await vouch('other', first, thief),
      'by a stranger': await vouch(domain.domain, await generateSigner(), thief),
    }
    for (const [why, link] of Object.entries(bad)) {
      const envelope = await bundle([thief], { succession: [link] })
      await assert.rejects(accept(envelope, [first]), { code: 'ERR_BUNDLE_SIGNATURE' }, why)
    }
    const asBundle = textOf(await signBundle(words(thief), [first, thief]))
    for (const link of [asBundle, 'garbage', '{}']) {
      const envelope = await bundle([thief], { succession: [link] })
      await assert.rejects(accept(envelope, [first]), { code: 'ERR_BUNDLE_MALFORMED' })
    }
  })

  it('gives a signer that left no way back: who knows the new one only does not take its word', async () => {
    const thief = await generateSigner()
    const envelope = await bundle([thief], {
      succession: [...links, await vouch(domain.domain, first, thief)],
    })
    await assert.rejects(accept(envelope, [third]), { code: 'ERR_BUNDLE_SIGNATURE' })
    await assert.rejects(accept(await bundle([first], { succession: links }), [third]), {
      code: 'ERR_BUNDLE_SIGNATURE',
    })
  })

  it('has room for the newest changes, tells former signers, and loses a link that was taken back', async () => {
    let succession: string[] = []
    for (let number = 0; number < 10; number++) succession = extended(succession, links[0] ?? '')
    assert.equal(succession.length, 8)
    for (let number = 0; number < 10; number++) succession = extended(succession, links[1] ?? '')
    assert.ok(succession.join('').length <= 64 * 1024 && succession.length >= 2, `${succession.length}`)
    const { domain: name } = domain
    assert.deepEqual(formerSigners({ succession: links }), [first.key, second.key])
    assert.deepEqual(withoutLinksTo(links, new Set([third.key.kid])), [links[0]])
    assert.deepEqual(await followed({ domain: name }, [first.key]), [first.key])
  })
})
