/** What an agent says of itself: its key in the status bucket, written whole each time. */
import { z } from 'zod'
import { ERRORS, type RotorErrorCode } from '../errors.ts'
import { instantText, sha256Hex } from './bundle.ts'

/** The steps of an apply, in order. `idle`: nothing under way. */
export const applyStep = z.enum([
  'idle',
  'verify',
  'renew',
  'stage',
  'preflight',
  'publish',
  'notify',
  'prove',
  'report',
])

export const leafStatus = z.object({
  /** SHA-256 of the certificate in DER. */
  fingerprint: sha256Hex,
  /** Epoch of the authority that issued it. */
  issuerEpoch: z.int(),
  notAfter: instantText,
})

export const targetStatus = z.object({
  type: z.string(),
  name: z.string(),
  ok: z.boolean(),
  /** What was seen, in words. */
  evidence: z.string(),
  /** Fingerprint of the leaf that the target was seen to serve, where it serves one. */
  fingerprint: sha256Hex.optional(),
})

export const usageStatus = z.object({
  /** connection: to NATS. server: accepted by a TLS server of the process. client: of an HTTPS client. */
  type: z.string(),
  /** Who has them open. */
  name: z.string(),
  /** Fingerprint of the leaf they were made with. */
  leaf: sha256Hex,
  /** Epoch of the authority that issued that leaf; null when the agent does not know it. */
  issuerEpoch: z.int().nullable(),
  sockets: z.int().positive(),
  /** When the oldest of them was opened. */
  since: instantText,
})

const errorCode = z.custom<RotorErrorCode>(
  (value) => typeof value === 'string' && value in ERRORS,
  'expected a code of RotorError',
)

export const agentStatus = z.object({
  v: z.literal(1),
  agent: z.string(),
  role: z.enum(['server', 'service', 'issuer']),
  /** Bundle version that is applied and proven. */
  version: z.int().nonnegative(),
  /** SHA-256 of that bundle's payload. */
  digest: sha256Hex,
  /** applied: the newest accepted bundle is proven. applying: under way. rolled-back: the last try was put back. */
  state: z.enum(['applied', 'applying', 'rolled-back']),
  step: applyStep,
  leaf: leafStatus,
  targets: z.array(targetStatus),
  /** Open sockets of this process that were made with another leaf than `leaf`. Before it was told: none. */
  usage: z.array(usageStatus).default([]),
  /** Our clock minus the clock of the issuer that leads; null before it was measured. */
  clockOffsetMs: z.number().nullable(),
  /** The true offset is at most this far from it. */
  clockBoundMs: z.number().nonnegative().default(0),
  lastError: z.object({ code: errorCode, message: z.string(), at: instantText, version: z.int() }).nullable(),
  started: instantText,
  at: instantText,
  software: z.string(),
})

export type ApplyStep = z.infer<typeof applyStep>
export type TargetStatus = z.infer<typeof targetStatus>
export type UsageStatus = z.infer<typeof usageStatus>
export type AgentStatus = z.infer<typeof agentStatus>
