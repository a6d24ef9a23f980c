/** Which issuer leads: key `lease` of the state bucket, written by compare-and-set only. */
import { z } from 'zod'
import { instantText } from './bundle.ts'

export const LEASE_KEY = 'lease'

export const leaseRecord = z.object({
  v: z.literal(1),
  /** Name of the issuer that leads; null when it gave the lease back. */
  holder: z.string().max(63).nullable(),
  /** The process that leads: an issuer that was started again is another one. */
  instance: z.string().max(64),
  /** Grows with every change of the leader. What it writes carries it, and a smaller one is refused from then on. */
  fence: z.int().positive(),
  /** Milliseconds: who sees no renewal for this long may take over. */
  duration: z.int().positive(),
  /** Since when it leads, and when it was renewed, by the clock of the holder. For people: nothing is decided by them. */
  since: instantText,
  at: instantText,
})
export type LeaseRecord = z.infer<typeof leaseRecord>
