/** What the tests of refusals share: a domain, its context, and hostile bundles on demand. */
import assert from 'node:assert/strict'
import { type AcceptContext, acceptBundle } from '../../../src/bundle/accept.ts'
import { type Signer, signBundle } from '../../../src/bundle/envelope.ts'
import { RotorError, type RotorErrorCode } from '../../../src/errors.ts'
import { type Certificate, parseCertificate } from '../../../src/trust/certificate.ts'
import { issueAuthority } from '../../../src/trust/issue.ts'
import type { KeyPair } from '../../../src/trust/keys.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestDomain } from '../../support/test-domain.ts'

export const DAY = 86_400_000
export const now = Date.UTC(2026, 10, 22, 12)
export const window = { notBefore: now - DAY, notAfter: now + DAY }
/** An epoch without an authority in the bundles of the domain. */
export const LAST = 83119

export interface Stage {
  readonly domain: TestDomain
  readonly context: AcceptContext
  /** Asserts that these bytes are refused with this code and a message that matches. */
  refused(
    bytes: Uint8Array,
    code: RotorErrorCode,
    message: RegExp,
    changes?: Partial<AcceptContext>,
  ): Promise<void>
  signedText(text: string, by?: readonly Signer[]): Promise<Uint8Array>
  /** The domain's bundle with changes. */
  signed(overrides: Partial<BundlePayload>): Promise<Uint8Array>
  /** The domain's bundle with one more authority in it. @default epoch LAST */
  withAuthority(certificate: Certificate, epoch?: number): Promise<Uint8Array>
  /** A sound authority for this key under the root of the domain. */
  authorityFor(keyPair: KeyPair): Promise<Certificate>
}

export async function makeStage(): Promise<Stage> {
  const domain = await makeTestDomain({ domain: 'prod', now, epochs: [83117, 83118] })
  const context: AcceptContext = { domain: 'prod', pinned: [domain.signer.key], held: null, highest: 0, now }
  const signed = async (overrides: Partial<BundlePayload>) => (await domain.bundle(overrides)).envelope
  return {
    domain,
    context,
    signed,
    signedText: (text, by = [domain.signer]) => signBundle(text, by),
    withAuthority: (certificate, epoch = LAST) =>
      signed({ authorities: [...domain.payload().authorities, domain.entry({ epoch, certificate })] }),
    authorityFor: async (keyPair) => {
      const pem = await issueAuthority({ domain: 'prod', epoch: LAST, keyPair, root: domain.root, ...window })
      return parseCertificate(pem, 'authority')
    },
    refused: async (bytes, code, message, changes = {}) => {
      await assert.rejects(acceptBundle(bytes, { ...context, ...changes }), (error: unknown) => {
        assert.ok(RotorError.is(error), String(error))
        assert.equal(error.code, code, error.message)
        assert.match(error.message, message)
        return true
      })
    },
  }
}
