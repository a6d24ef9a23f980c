/** Requests to the issuer and their answers: sign, turn, order. */
import { z } from 'zod'
import { ERRORS, type RotorErrorCode } from '../errors.ts'
import type { Duration } from '../time.ts'
import { instantText, SIGNER_KINDS } from './bundle.ts'

export const refusal = z.object({
  ok: z.literal(false),
  code: z.custom<RotorErrorCode>((value) => typeof value === 'string' && value in ERRORS),
  message: z.string(),
  /** Milliseconds; when asking again makes sense. */
  retryAfter: z.int().nonnegative().optional(),
  serverTime: instantText,
})

/** Characters of a request in PEM: one for a certificate of 20 kB. */
export const MAX_CSR = 40 * 1024

/** How long an agent waits for the answer to a signing request; the issuer answers before, if only with `retryAfter`. */
export const SIGN_TIMEOUT: Duration = 5_000

/**
 * The claims of a signing request. They travel as a compact JWS (RFC 7515) whose `x5c` header is the current leaf
 * chain of the agent: the signature by the current leaf key is the proof of possession.
 */
export const signClaims = z.object({
  v: z.literal(1),
  domain: z.string(),
  agent: z.string(),
  /** PKCS #10 in PEM (RFC 2986). */
  csr: z.string().max(MAX_CSR),
  /** The epoch the agent expects to be signed under: that of its newest bundle. */
  epoch: z.int(),
  at: instantText,
})
export type SignClaims = z.infer<typeof signClaims>

export const signAnswer = z.discriminatedUnion('ok', [
  z.object({
    ok: z.literal(true),
    epoch: z.int(),
    /** PEM: leaf first, then its authority. */ chain: z.string(),
    serverTime: instantText,
  }),
  refusal,
])
export type SignAnswer = z.infer<typeof signAnswer>

/**
 * One nats-server changes at a time: its agent asks for the turn before it publishes, and gives it back after. All
 * others ask whether they may follow: the first server to change is the canary of a version for them, too.
 */
export const turnRequest = z.object({
  v: z.literal(1),
  agent: z.string(),
  version: z.int().positive(),
  op: z.enum(['acquire', 'release', 'follow']),
  /** With release: did the step end well? A failed canary stops the others. */
  outcome: z.enum(['applied', 'rolled-back']).optional(),
})
export type TurnRequest = z.infer<typeof turnRequest>

export const turnAnswer = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), serverTime: instantText }),
  refusal,
])
export type TurnAnswer = z.infer<typeof turnAnswer>

/**
 * rotate: the next authority now. root-rotate: a new root first, then a rotation under it. withdraw: back out before the
 * first use. rollback: an earlier authority signs again. taint: an authority is not to be relied on any more. pause: no
 * rotation begins or goes on, until resume. signer-rotate: another key for bundles; signer-withdraw: not that one after all.
 */
export const ORDER_KINDS = [
  'rotate',
  'root-rotate',
  'withdraw',
  'rollback',
  'taint',
  'pause',
  'resume',
  'signer-rotate',
  'signer-withdraw',
] as const

/** To an empty request: the clock of the issuer that leads. */
export const timeAnswer = z.object({ v: z.literal(1), serverTime: instantText })

/** What an operator wants. */
export const order = z.object({
  v: z.literal(1),
  kind: z.enum(ORDER_KINDS),
  /** With taint: which authority. */
  epoch: z.int().optional(),
  /** With signer-rotate: what the new one is. @default ed25519 */
  signer: z.enum(SIGNER_KINDS).optional(),
  /** With root-rotate: old and new root sign each other's key. */
  crossSign: z.boolean().default(false),
  /** Go on without the named stragglers. */
  force: z.boolean(),
  reason: z.string().min(1).max(500),
  by: z.string().max(200),
  at: instantText,
})
export type Order = z.infer<typeof order>

export const orderAnswer = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), serverTime: instantText }),
  refusal,
])
export type OrderAnswer = z.infer<typeof orderAnswer>
