import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { acceptBundle } from '../../../src/bundle/accept.ts'
import { epochEnd } from '../../../src/schedule.ts'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import { issueLeaf, issueRoot } from '../../../src/trust/issue.ts'
import { generateKeyPair } from '../../../src/trust/keys.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'
import { ca, certSign, craft, crlSignOnly, x509 } from '../trust/oracle.ts'
import { DAY, LAST, makeStage, now, type Stage, window } from './stage.ts'

describe('a bundle is refused', () => {
  let stage: Stage
  let stranger: TestDomain
  before(async () => {
    stage = await makeStage()
    stranger = await makeTestDomain({ domain: 'prod', now })
  })

  describe('for its authorities', () => {
    const authority = 'ERR_BUNDLE_AUTHORITY'

    it('when one does not parse, or is two certificates', async () => {
      const [first, ...others] = stage.domain.payload().authorities
      assert.ok(first !== undefined)
      const { certificate } = first
      for (const bad of [
        certificate.slice(0, -30),
        certificate + certificate,
        certificate.replace('MII', 'MIJ'),
      ]) {
        const authorities = [{ ...first, certificate: bad }, ...others]
        await stage.refused(await stage.signed({ authorities }), authority, /authority of epoch 83117/)
      }
    })

    it('when one has another fingerprint than the bundle says', async () => {
      const [first, ...others] = stage.domain.payload().authorities
      assert.ok(first !== undefined)
      const authorities = [{ ...first, sha256: 'a'.repeat(64) }, ...others]
      await stage.refused(
        await stage.signed({ authorities }),
        authority,
        /expected the certificate a{64}, found/,
      )
    })

    it('when one is a leaf, not a CA', async () => {
      const { publicKey } = await generateKeyPair()
      const names = { dns: ['localhost'], ip: [], uri: [] }
      const pem = await issueLeaf({
        authority: stage.domain.root,
        publicKey,
        commonName: 'x',
        names,
        ...window,
      })
      await stage.refused(
        await stage.withAuthority(parseCertificate(pem, 'leaf')),
        authority,
        /epoch 83119: "CN=x" is no CA/,
      )
    })

    it('when one may not sign certificates, has a weak key or an unknown critical extension', async () => {
      const make = async (...extensions: x509.Extension[]) =>
        (await craft({ ...window, subject: 'CN=odd', issuer: stage.domain.root, extensions })).certificate
      await stage.refused(
        await stage.withAuthority(await make(ca(0))),
        authority,
        /may not sign certificates/,
      )
      await stage.refused(
        await stage.withAuthority(await make(ca(0), crlSignOnly())),
        authority,
        /may not sign certificates/,
      )
      const strange = new x509.Extension('1.2.3.4', true, Buffer.from('0500', 'hex'))
      await stage.refused(
        await stage.withAuthority(await make(ca(0), certSign(), strange)),
        authority,
        /not understood: 1\.2\.3\.4/,
      )
      for (const weak of [
        generateKeyPairSync('rsa', { modulusLength: 1024 }),
        generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
      ]) {
        const bytes = await stage.withAuthority(await stage.authorityFor(weak))
        await stage.refused(bytes, authority, /epoch 83119: .* expected .*key/)
      }
      const sound = await stage.withAuthority(await make(ca(0), certSign()))
      assert.ok(await acceptBundle(sound, stage.context))
    })

    it('when one has ended or has not begun, beyond the skew', async () => {
      const other = await makeTestDomain({ domain: 'prod', now, epochs: [83118] })
      const pinned = [other.signer.key]
      const end = now - other.schedule.lead
      const late = await other.addAuthority(83110, { notBefore: now - DAY, notAfter: end - 1000 })
      await stage.refused((await other.bundle()).envelope, authority, /epoch 83110: .* ended/, { pinned })
      other.authorities.splice(other.authorities.indexOf(late), 1)
      const early = await other.addAuthority(83120, {
        notBefore: epochEnd(other.schedule, 83118),
        notAfter: now + 9 * DAY,
      })
      await stage.refused((await other.bundle()).envelope, authority, /epoch 83120: .* is valid from/, {
        pinned,
      })
      other.authorities.splice(other.authorities.indexOf(early), 1)
      await other.addAuthority(83111, { notBefore: now - DAY, notAfter: end })
      assert.ok(await acceptBundle((await other.bundle()).envelope, { ...stage.context, pinned }))
    })

    it('when two are for one epoch, or two are active', async () => {
      const certificate = await stage.authorityFor(await generateKeyPair())
      await stage.refused(
        await stage.withAuthority(certificate, 83117),
        authority,
        /two authorities of epoch 83117/,
      )
      const authorities = stage.domain.authorities.map((one) => stage.domain.entry(one, 'active'))
      await stage.refused(
        await stage.signed({ authorities }),
        authority,
        /expected one active authority, found epochs 83117, 83118/,
      )
    })
  })

  describe('for its roots', () => {
    const chain = 'ERR_BUNDLE_CHAIN'

    it('when an authority was issued by a root that is not in it, also one of the same name', async () => {
      await stage.refused(
        await stage.signed({ roots: [stranger.root.certificate.pem] }),
        chain,
        /authority of epoch 83117/,
      )
      await stage.refused(
        await stage.withAuthority(stranger.authority().certificate),
        chain,
        /epoch 83119: .* is not among the roots/,
      )
      const name = new x509.X509Certificate(stage.domain.root.certificate.pem).subject
      const twin = await craft({ ...window, subject: name, extensions: [ca(1), certSign()] })
      assert.equal(twin.certificate.subject, stage.domain.root.certificate.subject)
      await stage.refused(await stage.signed({ roots: [twin.certificate.pem] }), chain, /signature/)
      const roots = [twin.certificate.pem, stage.domain.root.certificate.pem]
      assert.ok(await acceptBundle(await stage.signed({ roots }), stage.context))
    })

    it('when a root is broken, no CA, not self-signed, ended, or allows no authority', async () => {
      const good = stage.domain.root.certificate.pem
      const root = async (...extensions: x509.Extension[]) =>
        (await craft({ ...window, subject: 'CN=root', extensions })).certificate.pem
      const ended = {
        domain: 'prod',
        keyPair: await generateKeyPair(),
        notBefore: now - 2 * DAY,
        notAfter: now - DAY,
      }
      const cases: [string, RegExp][] = [
        [good.slice(0, -30), /root 2/],
        [good + good, /expected one certificate/],
        [await root(certSign()), /root 2: "CN=root" is no CA/],
        [await root(ca()), /may not sign certificates/],
        [await root(ca(0), certSign()), /allows no authority/],
        [stage.domain.authority().certificate.pem, /root 2: .*issued by/],
        [await issueRoot(ended), /root 2: .* ended/],
      ]
      for (const [pem, message] of cases)
        await stage.refused(await stage.signed({ roots: [good, pem] }), chain, message)
    })
  })

  describe('for its keys', () => {
    const reused = 'ERR_BUNDLE_KEY_REUSED'

    it('when two authorities share a key', async () => {
      const certificate = await stage.authorityFor(stage.domain.authority().keyPair)
      await stage.refused(
        await stage.withAuthority(certificate),
        reused,
        /epoch 83119 .* has the key of ".* epoch 83118/,
      )
    })

    it('when an authority has the key of a root, or a root is listed twice', async () => {
      const certificate = await stage.authorityFor(stage.domain.root.keyPair)
      await stage.refused(await stage.withAuthority(certificate), reused, /has the key of "CN=prod root/)
      const { pem } = stage.domain.root.certificate
      await stage.refused(await stage.signed({ roots: [pem, pem] }), reused, /has the key of/)
    })

    it('when a root that we hold comes back as another certificate with its key', async () => {
      const { keyPair } = stage.domain.root
      const again = await issueRoot({
        domain: 'prod',
        keyPair,
        notBefore: now - DAY,
        notAfter: now + 100 * DAY,
      })
      const first = await stage.domain.bundle()
      const next = await stage.domain.bundle({ roots: [again] }, { after: first })
      const held = { version: 1, digest: first.digest, roots: first.payload.roots }
      await stage.refused(next.envelope, reused, /replaces [0-9a-f]{64} with the same key/, {
        held,
        highest: 1,
      })
      assert.ok(await acceptBundle(next.envelope, { ...stage.context, highest: 1 }))
    })
  })

  it('when the signing epoch has no authority, or one that is not active', async () => {
    const code = 'ERR_BUNDLE_SIGNING_EPOCH'
    await stage.refused(await stage.signed({ epoch: LAST }), code, /signing epoch 83119, found none/)
    await stage.refused(await stage.signed({ epoch: 83117 }), code, /signing epoch 83117, found retiring/)
    for (const status of ['prepared', 'retiring', 'tainted'] as const) {
      const authorities = stage.domain.authorities.map((one) => stage.domain.entry(one, status))
      await stage.refused(await stage.signed({ authorities }), code, new RegExp(`found ${status}`))
    }
  })
})
