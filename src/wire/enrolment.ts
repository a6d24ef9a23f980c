/**
 * How a node comes into the domain and leaves it: requests of an operator, the request of a node that joins over HTTPS,
 * and the two records behind them in the state bucket.
 */
import { z } from 'zod'
import { KEY_ALGORITHMS } from '../trust/keys.ts'
import { instantText, MAX_BUNDLE_BYTES, sha256Hex } from './bundle.ts'
import { MAX_CSR, refusal } from './requests.ts'

/** Public half of a token: names its record, and lets an operator revoke it. */
export const tokenId = z.string().regex(/^[0-9a-f]{16}$/, 'expected 16 hex digits')
const secret = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'expected 32 bytes in base64url')
const name = z.string().max(63)
const by = z.string().max(200)
const reason = z.string().min(1).max(500)

// ---- records

/** Key `join.<id>`. A token is redeemed once, by compare-and-set, for one key. */
export const tokenRecord = z.object({
  v: z.literal(1),
  id: tokenId,
  agent: name,
  /** SHA-256 of the secret, which nobody but the token has. */
  secretSha256: sha256Hex,
  createdAt: z.number(),
  expiresAt: z.number(),
  by,
  /** The one key it was redeemed for: who lost the answer may ask with that key again. */
  redeemed: z.object({ at: z.number(), spkiSha256: sha256Hex }).nullable(),
  revoked: z.object({ at: z.number(), by, reason }).nullable(),
})
export type TokenRecord = z.infer<typeof tokenRecord>

/** Key `agent.<name>`. An agent with an entry of its own needs none. */
export const memberRecord = z.object({
  v: z.literal(1),
  agent: name,
  state: z.enum(['joined', 'removed']),
  at: z.number(),
  by,
  reason,
})
export type MemberRecord = z.infer<typeof memberRecord>

export const TOKEN_PREFIX = 'join.'
export const MEMBER_PREFIX = 'agent.'
export const tokenKey = (id: string): string => `${TOKEN_PREFIX}${id}`
export const memberKey = (agent: string): string => `${MEMBER_PREFIX}${agent}`

// ---- requests of an operator

export const enrolRequest = z.discriminatedUnion('op', [
  z.object({
    v: z.literal(1),
    op: z.literal('create-token'),
    id: tokenId,
    agent: name,
    /** The secret itself is made by the operator's process and travels nowhere but in the token. */
    secretSha256: sha256Hex,
    /** Milliseconds. */
    ttl: z.int().positive(),
    by,
  }),
  z.object({ v: z.literal(1), op: z.literal('list-tokens') }),
  z.object({ v: z.literal(1), op: z.literal('revoke-token'), id: tokenId, by, reason }),
  z.object({ v: z.literal(1), op: z.literal('remove-agent'), agent: name, by, reason }),
])
export type EnrolRequest = z.infer<typeof enrolRequest>

const answer = <T extends z.ZodRawShape>(shape: T) =>
  z.discriminatedUnion('ok', [z.object({ ok: z.literal(true), serverTime: instantText, ...shape }), refusal])

const keyAlgorithm = z.enum(KEY_ALGORITHMS)
const spiffeNames = z.object({ dns: z.array(z.string()), ip: z.array(z.string()), uri: z.array(z.string()) })
const role = z.enum(['server', 'service', 'issuer'])

/** What goes into the token besides the secret. */
export const tokenCreated = answer({
  agent: name,
  role,
  expiresAt: instantText,
  addresses: z.array(z.string()).min(1),
  /** SHA-256 of the public key of the join endpoint. */
  endpoint: sha256Hex,
  /** Fingerprints of the keys that sign bundles. */
  signers: z.array(z.string()).min(1),
  key: keyAlgorithm,
})

export const tokenState = z.enum(['open', 'redeemed', 'expired', 'revoked'])
export const tokensListed = answer({
  tokens: z.array(
    z.object({
      id: tokenId,
      agent: name,
      state: tokenState,
      createdAt: instantText,
      expiresAt: instantText,
      by,
    }),
  ),
})

export const tokenRevoked = answer({ id: tokenId, agent: name })

export const agentRemoved = answer({
  agent: name,
  /** Until when its last known certificate is trusted; null when none is known. */
  leafEnds: instantText.nullable(),
  revoked: z.int().nonnegative(),
})

// ---- joining over HTTPS: POST /join

export const joinRequest = z.strictObject({
  v: z.literal(1),
  id: tokenId,
  secret,
  /** PKCS #10 in PEM (RFC 2986): its signature proves that the node has the key. */
  csr: z.string().max(MAX_CSR),
})
export type JoinRequest = z.infer<typeof joinRequest>

export const joinAnswer = answer({
  /** PEM: leaf first, then its authority. */
  chain: z.string().max(512 * 1024),
  epoch: z.int(),
  /** The newest bundle: the text of its envelope. */
  bundle: z.string().max(MAX_BUNDLE_BYTES),
  /** What its agent.json needs. */
  hints: z.object({
    role,
    servers: z.array(z.string()).min(1),
    handshakeFirst: z.boolean(),
    names: spiffeNames,
    key: keyAlgorithm,
  }),
})
export type JoinAnswer = z.infer<typeof joinAnswer>
export type JoinHints = Extract<JoinAnswer, { ok: true }>['hints']
