/** What the issuer last saw and waits for: key `report` of the state bucket, for people and monitoring. */
import { z } from 'zod'
import { instantText } from './bundle.ts'

export const REPORT_KEY = 'report'

export const issuerReport = z.object({
  v: z.literal(1),
  at: instantText,
  version: z.int(),
  phase: z.string(),
  /** Why nothing moves, as the code of `advance`; `not-due` is the usual one. */
  reason: z.string(),
  /** Since when it is this reason. */
  since: instantText,
  waitingFor: z.array(z.object({ name: z.string(), kind: z.enum(['agent', 'server']), missing: z.string() })),
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
})
export type IssuerReport = z.infer<typeof issuerReport>
