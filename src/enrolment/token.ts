/**
 * A join token as text: one line of `rotor1.` and JSON in base64url. It carries everything the first contact needs to
 * be safe: whom to ask, the key that endpoint must have, the keys that may sign bundles, and the secret.
 */
import { createHash, randomBytes } from 'node:crypto'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { KEY_ALGORITHMS } from '../trust/keys.ts'
import { sha256Hex } from '../wire/bundle.ts'
import { joinRequest } from '../wire/enrolment.ts'
import { isName } from '../wire/names.ts'
import { decodeRecord } from '../wire/record.ts'

const PREFIX = 'rotor1.'
/** Characters. One with eight addresses and sixteen signers has 2500. */
export const MAX_TOKEN = 8 * 1024

const nameText = z.string().refine(isName, 'expected a name')

const joinToken = z.strictObject({
  domain: nameText,
  agent: nameText,
  /** `host:port` of the join endpoint. */
  addresses: z
    .array(z.string().regex(/^[^\s/@]+:\d{1,5}$/, 'expected host:port'))
    .min(1)
    .max(8),
  /** SHA-256 of the endpoint's public key (SubjectPublicKeyInfo). */
  endpoint: sha256Hex,
  /** Thumbprints of the keys that sign bundles. */
  signers: z
    .array(z.string().regex(/^[A-Za-z0-9_-]{43}$/))
    .min(1)
    .max(16),
  /** Kind of key that the issuer takes from this agent. */
  key: z.enum(KEY_ALGORITHMS),
  id: joinRequest.shape.id,
  secret: joinRequest.shape.secret,
})
export type JoinToken = z.infer<typeof joinToken>

export const encodeToken = (token: JoinToken): string =>
  PREFIX + Buffer.from(JSON.stringify(token)).toString('base64url')

/** Throws ERR_JOIN_TOKEN; no message has any part of the text. */
export function decodeToken(text: string): JoinToken {
  const line = text.trim()
  if (!isToken(line)) {
    throw new RotorError('ERR_JOIN_TOKEN', `join token: expected one line that begins with ${PREFIX}`)
  }
  const body = line.slice(PREFIX.length)
  if (line.length > MAX_TOKEN || !/^[A-Za-z0-9_-]+$/.test(body)) {
    throw new RotorError(
      'ERR_JOIN_TOKEN',
      `join token: expected base64url of at most ${MAX_TOKEN} characters; was it copied whole?`,
    )
  }
  try {
    return decodeRecord(joinToken, Buffer.from(body, 'base64url'), 'join token', 'ERR_JOIN_TOKEN')
  } catch (cause) {
    // without the cause: an error of JSON.parse quotes what it read
    throw new RotorError('ERR_JOIN_TOKEN', RotorError.from(cause).message)
  }
}

export const isToken = (text: string): boolean => text.startsWith(PREFIX)

/** The parts of a new token that nobody chooses: 64 bits of name, 256 of secret. */
export const newTokenSecret = (): Pick<JoinToken, 'id' | 'secret'> => ({
  id: randomBytes(8).toString('hex'),
  secret: randomBytes(32).toString('base64url'),
})

/**
 * What is stored of a secret. A plain hash is enough: a slow one protects words that people choose, and 256 random
 * bits can not be tried out.
 */
export const secretSha256 = (secret: string): string => createHash('sha256').update(secret).digest('hex')
