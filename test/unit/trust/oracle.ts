/** A second opinion on our certificates, by the openssl command, and hostile ones that our own code would not make. */
import 'reflect-metadata'
import { execFileSync, spawnSync } from 'node:child_process'
import { type KeyObject, webcrypto } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as x509 from '@peculiar/x509'
import { type Certificate, parseCertificate } from '../../../src/trust/certificate.ts'
import type { KeyedCertificate } from '../../../src/trust/issue.ts'
import { generateKeyPair, type KeyPair, privateKeyToPem } from '../../../src/trust/keys.ts'

x509.cryptoProvider.set(webcrypto)

export { x509 }

/** Output of an openssl command that reads `input`. */
export const openssl = (args: readonly string[], input = ''): string =>
  execFileSync('openssl', args, { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] })

/** A signing request for this key, made by openssl with the given arguments. */
export const opensslRequest = (privateKey: KeyObject, ...args: readonly string[]): string =>
  withFiles({ key: privateKeyToPem(privateKey) }, ({ key }) => openssl(['req', '-new', '-key', key, ...args]))

/** What `openssl verify` says: "" when the leaf verifies, else its complaint. */
export const opensslVerify = (
  leaf: string,
  { trusted, untrusted = trusted }: { trusted: string; untrusted?: string },
  at: number,
  options: readonly string[] = [],
): string =>
  withFiles({ leaf, trusted, untrusted }, (files) => {
    const time = ['-attime', String(Math.floor(at / 1000))]
    const chain = ['-CAfile', files.trusted, '-untrusted', files.untrusted, files.leaf]
    const run = spawnSync('openssl', ['verify', '-x509_strict', ...time, ...options, ...chain], {
      encoding: 'utf8',
    })
    return run.status === 0 ? '' : run.stderr + run.stdout
  })

/** Runs `use` with the texts as files of a temporary folder. */
function withFiles<K extends string, T>(texts: Record<K, string>, use: (paths: Record<K, string>) => T): T {
  const dir = mkdtempSync(join(tmpdir(), 'rotor-openssl-'))
  try {
    const paths = { ...texts }
    for (const name of Object.keys(texts) as K[]) {
      paths[name] = join(dir, `${name}.pem`)
      writeFileSync(paths[name], texts[name])
    }
    return use(paths)
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** One value in DER: tag, length, content. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.of(tag, ...head), content])
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts)

/** A subjectAltName extension with this value, sound or not. */
export const altNames = (value: Uint8Array): x509.Extension => new x509.Extension('2.5.29.17', false, value)

const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

const cryptoKey = (key: KeyObject) =>
  key.toCryptoKey(P256, true, key.type === 'private' ? ['sign'] : ['verify'])

export interface CraftOptions {
  readonly subject: string
  /** Without one the certificate is self-signed. */
  readonly issuer?: KeyedCertificate
  /** Claims this issuer name instead of the name of the signing certificate. */
  readonly issuerName?: string
  readonly keyPair?: KeyPair
  readonly extensions?: readonly x509.Extension[]
  readonly notBefore: number
  readonly notAfter: number
}

export interface Crafted extends KeyedCertificate {
  readonly certificate: Certificate
  readonly keyPair: KeyPair
}

/** A P-256 certificate with exactly these extensions, sound or not. */
export async function craft(options: CraftOptions): Promise<Crafted> {
  const keyPair = options.keyPair ?? (await generateKeyPair())
  const certificate = parseCertificate(await craftDer({ ...options, keyPair }), options.subject)
  return { certificate, keyPair, privateKey: keyPair.privateKey }
}

/** Its bytes, also of one that we do not read. */
export async function craftDer(options: CraftOptions): Promise<Uint8Array> {
  const keyPair = options.keyPair ?? (await generateKeyPair())
  const { issuer } = options
  const made = await x509.X509CertificateGenerator.create({
    subject: options.subject,
    issuer: options.issuerName ?? (issuer === undefined ? options.subject : nameOf(issuer.certificate)),
    publicKey: cryptoKey(keyPair.publicKey),
    signingKey: cryptoKey(issuer?.privateKey ?? keyPair.privateKey),
    signingAlgorithm: P256,
    serialNumber: '0123456789abcdef',
    notBefore: new Date(options.notBefore),
    notAfter: new Date(options.notAfter),
    extensions: [...(options.extensions ?? [])],
  })
  return new Uint8Array(made.rawData)
}

const nameOf = (certificate: Certificate): x509.Name =>
  new x509.X509Certificate(Buffer.from(certificate.der)).subjectName

export const ca = (pathLength?: number): x509.Extension =>
  new x509.BasicConstraintsExtension(true, pathLength, true)
export const certSign = (): x509.Extension =>
  new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)
export const crlSignOnly = (): x509.Extension => new x509.KeyUsagesExtension(x509.KeyUsageFlags.cRLSign, true)
