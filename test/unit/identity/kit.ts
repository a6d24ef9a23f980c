/** What the tests of the identity directory share: real certificates, made once, and temporary folders. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { GenerationFacts } from '../../../src/identity/generations.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import type { AcceptedState } from '../../../src/identity/state.ts'
import { parseCertificate } from '../../../src/trust/certificate.ts'
import {
  issueAuthority,
  issueLeaf,
  issueRoot,
  type KeyedCertificate,
  type Window,
} from '../../../src/trust/issue.ts'
import { generateKeyPair, privateKeyToPem } from '../../../src/trust/keys.ts'
import type { Names } from '../../../src/trust/names.ts'

export const HOUR = 3_600_000
export const NOW = Date.UTC(2031, 4, 6, 12)
const window = { notBefore: NOW - HOUR, notAfter: NOW + 12 * HOUR }

export const digestOf = (version: number): string => version.toString(16).padStart(64, '0')
export const factsOf = (version: number, epoch = 7): GenerationFacts => ({
  version,
  digest: digestOf(version),
  epoch,
})

/** One authority of epoch `epoch` under a root of its own. */
export async function makeAuthority(epoch = 7): Promise<KeyedCertificate> {
  const rootKeys = await generateKeyPair()
  const rootPem = await issueRoot({ domain: 'test', keyPair: rootKeys, ...window })
  const root = { certificate: parseCertificate(rootPem, 'root'), privateKey: rootKeys.privateKey }
  const keyPair = await generateKeyPair()
  const pem = await issueAuthority({ domain: 'test', epoch, keyPair, root, ...window })
  return { certificate: parseCertificate(pem, 'authority'), privateKey: keyPair.privateKey }
}

/** A complete identity with a key of its own. */
export async function makeMaterial(
  authority: KeyedCertificate,
  names: Names = { dns: ['orders.test'], ip: [], uri: [] },
  valid: Window = window,
): Promise<IdentityMaterial> {
  const keyPair = await generateKeyPair()
  const leaf = await issueLeaf({
    authority,
    publicKey: keyPair.publicKey,
    commonName: 'orders',
    names,
    ...valid,
  })
  const ca = authority.certificate.pem
  return { key: privateKeyToPem(keyPair.privateKey), certificate: leaf + ca, ca }
}

/** `count` identities of one authority. */
export async function makeMaterials(count: number): Promise<IdentityMaterial[]> {
  const authority = await makeAuthority()
  return await Promise.all(Array.from({ length: count }, () => makeMaterial(authority)))
}

export const stateOf = (version: number): AcceptedState => ({
  v: 1,
  domain: 'test',
  agent: 'orders',
  highest: { version, digest: digestOf(version) },
  signers: [{ kty: 'OKP', crv: 'Ed25519', x: 'a'.repeat(43), kid: 'b'.repeat(43) }],
  roots: [],
  envelope: null,
  proven: null,
})

/** A temporary folder, removed at the end of the scope. */
export async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'identity-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Everything in a folder that a crash or a failed write could have left. */
export async function leftovers(dir: string): Promise<string[]> {
  const names = [...(await readdir(dir)), ...(await readdir(join(dir, 'generations')))]
  return names.filter((name) => name.startsWith('.'))
}
