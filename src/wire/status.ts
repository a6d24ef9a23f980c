/** What an agent says of itself: its key in the status bucket, written whole each time. */
import { z } from 'zod'
import { ERRORS, type RotorErrorCode } from '../errors.ts'
import type { Duration } from '../time.ts'
import { instantText, sha256Hex } from './bundle.ts'

/** Who said nothing for this long is silent: an agent reports once a minute at least. */
export const SILENT: Duration = 180_000

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

/** Of the configuration file of a nats-server, as far as its agent knows where it is. */
export const configStatus = z.object({
  /** Name of the server. */
  name: z.string(),
  /** What was changed and not loaded yet, in words; null when the server runs what is on disk. */
  edited: z.string().nullable(),
  /** What nats-server says against it, where the agent has its binary; null when it would take it, or was not asked. */
  refused: z.string().nullable(),
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
  /** One for each nats-server beside us whose configuration file we know and could compare. */
  configs: z.array(configStatus).default([]),
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
export type ConfigStatus = z.infer<typeof configStatus>
export type UsageStatus = z.infer<typeof usageStatus>
export type AgentStatus = z.infer<typeof agentStatus>
