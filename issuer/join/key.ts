/**
 * The key of the join endpoint. Tokens pin it, so it is the endpoint's own and stays over restarts and rotations; its
 * certificate is only the form TLS wants it in, signed by itself and made anew at each start.
 */
import { createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../../src/errors.ts'
import { errorCode, writeFileDurable } from '../../src/identity/durable.ts'
import type { Instant } from '../../src/time.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { issueLeaf, issueRoot } from '../../src/trust/issue.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem, spkiSha256 } from '../../src/trust/keys.ts'

const KEY_FILE = 'join.key'
const DAY = 86_400_000
const YEARS = 10 * 365 * DAY

export interface EndpointKey {
  /** PEM. */
  readonly key: string
  readonly certificate: string
  /** What tokens pin: SHA-256 of the SubjectPublicKeyInfo. */
  readonly spkiSha256: string
}

/**
 * The key in `dir`, made at the first start, encrypted when a passphrase is given. Throws ERR_AUTHORITY_LOCKED,
 * ERR_AUTHORITY_MISSING when it can not be read, ERR_IDENTITY_WRITE when it can not be written.
 */
export async function endpointKey(
  { domain, dir, passphrase }: { domain: string; dir: string; passphrase: string | undefined },
  now: Instant,
): Promise<EndpointKey> {
  const file = join(dir, KEY_FILE)
  const pem = (await read(file)) ?? (await make(file, passphrase))
  const privateKey = privateKeyFromPem(pem, passphrase, file)
  const keyPair = { privateKey, publicKey: createPublicKey(privateKey) }
  const window = { notBefore: now - DAY, notAfter: now + YEARS }
  const itself = parseCertificate(await issueRoot({ domain, keyPair, ...window }), 'join endpoint')
  const certificate = await issueLeaf({
    authority: { certificate: itself, privateKey },
    publicKey: keyPair.publicKey,
    commonName: 'join',
    names: { dns: [domain], ip: [], uri: [] },
    usages: ['serverAuth'],
    ...window,
  })
  return { key: privateKeyToPem(privateKey), certificate, spkiSha256: spkiSha256(keyPair.publicKey) }
}

async function make(file: string, passphrase: string | undefined): Promise<string> {
  const { privateKey } = await generateKeyPair()
  const pem = privateKeyToPem(privateKey, passphrase)
  try {
    await writeFileDurable(file, pem, 0o600)
    return pem
  } catch (cause) {
    // another issuer on the same key store was first
    const there = await read(file)
    if (there === null) throw cause
    return there
  }
}

async function read(file: string): Promise<string | null> {
  return readFile(file, 'utf8').catch((cause) => {
    if (errorCode(cause) === 'ENOENT') return null
    throw new RotorError('ERR_AUTHORITY_MISSING', `${file}: ${cause.message}`, { cause })
  })
}
