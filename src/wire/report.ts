/** What the issuer last saw and waits for: key `report` of the state bucket, for people and monitoring. */
import { z } from 'zod'
import { instantText } from './bundle.ts'

export const REPORT_KEY = 'report'

const connectionExample = z.object({
  kind: z.string(),
  name: z.string(),
  user: z.string(),
  server: z.string(),
  cid: z.int(),
  address: z.string(),
  since: z.string().nullable(),
  by: z.string(),
  certain: z.boolean(),
})

/** Connections that do not stand on the signing authority, a few of them by name. */
const census = z.object({
  /** Why they were not all counted. */
  problem: z.string().nullable(),
  standing: z.array(
    z.object({
      epoch: z.int(),
      certain: z.int(),
      possible: z.int(),
      examples: z.array(connectionExample).readonly(),
    }),
  ),
  /** Their certificate is of no authority of the bundle. */
  foreign: z.object({ count: z.int(), examples: z.array(connectionExample).readonly() }),
})

export const issuerReport = z.object({
  v: z.literal(1),
  at: instantText,
  version: z.int(),
  phase: z.string(),
  /** Why nothing moves, as the code of `advance`; `not-due` is the usual one. */
  reason: z.string(),
  /** Since when it is this reason. */
  since: instantText,
  /** The records had been lost, and were made again from this version of the kept bundles. */
  rebuilt: z.object({ at: instantText, version: z.int() }).nullable().default(null),
  waitingFor: z.array(
    z.object({ name: z.string(), kind: z.enum(['agent', 'server', 'connection']), missing: z.string() }),
  ),
  servers: z.array(
    z.object({
      name: z.string(),
      agent: z.string().nullable(),
      listeners: z.array(
        z.object({
          kind: z.string(),
          address: z.string(),
          /** Epoch of the authority that issued the leaf it was last seen to serve. */
          serves: z.int().nullable(),
          error: z.string().nullable(),
        }),
      ),
    }),
  ),
  /** Null before the first count. */
  census: census.nullable().default(null),
})
export type IssuerReport = z.infer<typeof issuerReport>

/** Key of the state bucket: why the issuer can not work at present, if it can not. */
export const PROBLEM_KEY = 'problem'

export const issuerProblem = z.object({
  v: z.literal(1),
  /** Null when the last turn of the rotation went well. */
  problem: z.object({ code: z.string(), message: z.string(), since: instantText }).nullable(),
})
export type IssuerProblem = z.infer<typeof issuerProblem>
