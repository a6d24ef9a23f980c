import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { assertIssuedBy, keyMatches, readySignatures, verifyLeaf } from '../../../src/trust/chain.ts'
import { generateKeyPair } from '../../../src/trust/keys.ts'
import { makeTestDomain, type TestDomain, type TestLeaf } from '../../support/test-domain.ts'
import { ca, certSign, craft, crlSignOnly, opensslVerify, x509 } from './oracle.ts'

const DAY = 86_400_000
const now = Date.UTC(2026, 10, 22, 12)
const window = { notBefore: now - DAY, notAfter: now + DAY }
const invalid = (message: RegExp) => ({ code: 'ERR_IDENTITY_INVALID', message })

describe('chains', () => {
  let domain: TestDomain
  let leaf: TestLeaf
  before(async () => {
    domain = await makeTestDomain({ domain: 'prod', now })
    leaf = await domain.leaf()
  })

  it('verifies a leaf by its authority as the anchor, sent along or not, as openssl does', () => {
    const authority = domain.authority().certificate
    assert.equal(verifyLeaf(leaf.chain, [authority], now), authority)
    assert.equal(verifyLeaf([leaf.certificate], [authority], now), authority)
    assert.equal(opensslVerify(leaf.certificate.pem, { trusted: authority.pem }, now, ['-partial_chain']), '')
  })

  it('verifies by the root when that is the anchor, and finds the right one of many anchors', () => {
    const root = domain.root.certificate
    const anchors = domain.authorities.map(({ certificate }) => certificate)
    assert.equal(verifyLeaf(leaf.chain, [root], now), root)
    assert.equal(verifyLeaf([...leaf.chain, root], [root], now), root)
    assert.equal(verifyLeaf([...leaf.chain, root], anchors, now), domain.authority().certificate)
    assert.equal(verifyLeaf([leaf.certificate], [root, ...anchors], now), domain.authority().certificate)
  })

  it('refuses a chain that leads to no anchor, an empty chain and no anchors', () => {
    const [other] = domain.authorities
    assert.ok(other !== undefined && other.epoch !== domain.epoch)
    assert.throws(
      () => verifyLeaf(leaf.chain, [other.certificate], now),
      invalid(/none of the 1 trust anchors/),
    )
    assert.throws(() => verifyLeaf(leaf.chain, [], now), invalid(/none of the 0 trust anchors/))
    assert.throws(() => verifyLeaf([], [other.certificate], now), invalid(/empty/))
  })

  it('does not take the leaf itself for an anchor, nor a CA for a leaf', () => {
    const authority = domain.authority().certificate
    assert.throws(() => verifyLeaf([leaf.certificate], [leaf.certificate], now), invalid(/none of the 1/))
    assert.throws(
      () => verifyLeaf([authority], [domain.root.certificate], now),
      invalid(/is a CA, expected a leaf/),
    )
  })

  it('refuses a link that does not fit, also above the anchor', async () => {
    const stranger = await makeTestDomain({ domain: 'other', now })
    const authority = domain.authority().certificate
    assert.throws(
      () => verifyLeaf([...leaf.chain, stranger.root.certificate], [authority], now),
      invalid(/was issued by/),
    )
    assert.throws(
      () => verifyLeaf([leaf.certificate, domain.root.certificate], [domain.root.certificate], now),
      invalid(/was issued by/),
    )
  })

  it('looks at the signature, not only at names and key identifiers', async () => {
    const authority = domain.authority()
    const forger = await craft({
      ...window,
      subject: 'CN=forger',
      extensions: [ca(0), certSign()],
    })
    const subject = new x509.X509Certificate(Buffer.from(authority.certificate.der)).subject
    const forged = await craft({
      ...window,
      subject: 'CN=agent',
      issuer: forger,
      issuerName: subject,
      extensions: [new x509.AuthorityKeyIdentifierExtension(authority.certificate.subjectKeyId ?? '')],
    })
    assert.throws(
      () => assertIssuedBy(forged.certificate, authority.certificate),
      invalid(/signature of "CN=agent"/),
    )
    assert.throws(
      () => verifyLeaf([forged.certificate], [authority.certificate], now),
      invalid(/none of the 1/),
    )
  })

  it('looks at a signature once, ahead or not, and what it remembers counts for that key only', async () => {
    const [one, other] = [await makeTestDomain({ now }), await makeTestDomain({ now })]
    const leaf = await one.leaf()
    await readySignatures(leaf.chain)
    const { certificate } = one.authority()
    verifyLeaf(leaf.chain, [certificate], now)
    const twin = await craft({
      ...window,
      subject: new x509.X509Certificate(Buffer.from(certificate.der)).subject,
      keyPair: other.authority().keyPair,
      extensions: [ca(0), certSign(), new x509.SubjectKeyIdentifierExtension(certificate.subjectKeyId ?? '')],
    })
    await readySignatures([leaf.certificate, twin.certificate])
    assert.throws(() => assertIssuedBy(leaf.certificate, twin.certificate), invalid(/the signature of/))
    verifyLeaf(leaf.chain, [certificate], now)
  })

  it('refuses an issuer that is no CA, may not sign certificates, or has another key identifier', async () => {
    const subject = 'CN=issuer'
    const noCa = await craft({ ...window, subject, extensions: [certSign()] })
    const noSign = await craft({ ...window, subject, extensions: [ca(), crlSignOnly()] })
    const otherId = await craft({
      ...window,
      subject,
      extensions: [ca(), certSign(), new x509.SubjectKeyIdentifierExtension('aa')],
    })
    const cases = [
      [noCa, /is no CA/],
      [noSign, /may not sign certificates/],
      [otherId, /was issued by the key bb, "CN=issuer" has aa/],
    ] as const
    for (const [issuer, message] of cases) {
      const extensions = [new x509.AuthorityKeyIdentifierExtension('bb')]
      const child = await craft({ ...window, subject: 'CN=child', issuer, extensions })
      assert.throws(() => assertIssuedBy(child.certificate, issuer.certificate), invalid(message))
    }
  })

  it('holds every certificate of the path to its dates, and allows the skew on both sides', async () => {
    const { notBefore, notAfter } = leaf.certificate
    const anchors = [domain.authority().certificate]
    const at = (time: number, skew?: number) =>
      verifyLeaf(leaf.chain, anchors, time, skew === undefined ? {} : { skew })
    at(notBefore)
    at(notAfter)
    assert.throws(() => at(notBefore - 1), invalid(/"CN=agent" is valid from 2026-/))
    assert.throws(() => at(notAfter + 1), invalid(/"CN=agent" ended 2026-/))
    at(notBefore - 5000, 5000)
    at(notAfter + 5000, 5000)
    assert.throws(() => at(notAfter + 5001, 5000), invalid(/ended/))
    assert.throws(() => at(notBefore - 5001, 5000), invalid(/valid from/))

    const ended = await craft({
      subject: 'CN=ended',
      notBefore: now - DAY,
      notAfter: now - 1000,
      extensions: [ca(), certSign()],
    })
    const under = await craft({ ...window, subject: 'CN=under', issuer: ended })
    assert.throws(
      () => verifyLeaf([under.certificate], [ended.certificate], now),
      invalid(/"CN=ended" ended/),
    )
  })

  it('holds the path length of authorities', async () => {
    const authority = domain.authority()
    const sub = await craft({
      ...window,
      subject: 'CN=sub',
      issuer: authority,
      extensions: [ca(), certSign()],
    })
    const child = await craft({ ...window, subject: 'CN=child', issuer: sub })
    const chain = [child.certificate, sub.certificate, authority.certificate]
    assert.throws(
      () => verifyLeaf(chain, [authority.certificate], now),
      invalid(/allows a path length of 0, found 1/),
    )
    assert.equal(verifyLeaf(chain, [sub.certificate], now), sub.certificate)
    const pems = { trusted: authority.certificate.pem, untrusted: sub.certificate.pem }
    assert.match(
      opensslVerify(child.certificate.pem, pems, now, ['-partial_chain']),
      /path length constraint exceeded/,
    )
  })

  it('holds the extended key usage of the leaf and of the authorities above it', async () => {
    const { authorities } = domain
    const anchors = authorities.map(({ certificate }) => certificate)
    for (const usage of ['clientAuth', 'serverAuth'] as const) verifyLeaf(leaf.chain, anchors, now, { usage })
    const make = async (...oids: string[]) => {
      const issuer = domain.authority()
      const extensions = oids.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension(oids)]
      const { certificate } = await craft({ ...window, subject: 'CN=one', issuer, extensions })
      return certificate
    }
    const clientOnly = await make('1.3.6.1.5.5.7.3.2')
    verifyLeaf([clientOnly], anchors, now)
    verifyLeaf([clientOnly], anchors, now, { usage: 'clientAuth' })
    assert.throws(
      () => verifyLeaf([clientOnly], anchors, now, { usage: 'serverAuth' }),
      invalid(/not for serverAuth, only for 1\.3\.6\.1\.5\.5\.7\.3\.2/),
    )
    verifyLeaf([await make()], anchors, now, { usage: 'serverAuth' })
    verifyLeaf([await make('2.5.29.37.0')], anchors, now, { usage: 'serverAuth' })

    const servers = await craft({
      ...window,
      subject: 'CN=servers',
      extensions: [ca(), certSign(), new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.1'])],
    })
    const child = await craft({ ...window, subject: 'CN=child', issuer: servers })
    assert.throws(
      () => verifyLeaf([child.certificate], [servers.certificate], now, { usage: 'clientAuth' }),
      invalid(/"CN=servers" is not for clientAuth/),
    )
  })

  it('refuses a critical extension that it does not understand', async () => {
    const issuer = domain.authority()
    const extensions = [new x509.Extension('1.2.3.4', true, Buffer.from('0500', 'hex'))]
    const strange = await craft({ ...window, subject: 'CN=strange', issuer, extensions })
    assert.throws(
      () => verifyLeaf([strange.certificate], [issuer.certificate], now),
      invalid(/not understood: 1\.2\.3\.4/),
    )
  })

  it('tells whether a private key belongs to a certificate', async () => {
    assert.equal(keyMatches(leaf.certificate, leaf.privateKey), true)
    for (const algorithm of ['P-256', 'P-384', 'Ed25519', 'RSA-3072'] as const) {
      const other = await generateKeyPair(algorithm)
      assert.equal(keyMatches(leaf.certificate, other.privateKey), false)
      const own = await domain.leaf({ algorithm })
      assert.equal(keyMatches(own.certificate, own.privateKey), true)
      assert.equal(keyMatches(own.certificate, own.keyPair.publicKey), false)
    }
  })
})
