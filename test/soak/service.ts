/** What the services of the soak and those who start them agree on: names, settings, and what is told. */
import { z } from 'zod'

export const SOAK_STREAM = 'SOAK'
export const SOAK_SUBJECTS = 'soak.>'

export const subjectsOf = (service: string) => ({
  core: `soak.core.${service}`,
  jetstream: `soak.js.${service}`,
  echo: `soak.echo.${service}`,
})

/** Durable, one for each service. */
export const consumerOf = (service: string): string => `soak-${service}`

export interface ServiceSettings {
  /** agent.json */
  readonly config: string
  /** 0, and one more for each time it was killed. */
  readonly life: number
  /** Whose messages are counted, and who is asked. */
  readonly neighbour: string
  /** Messages per second, half core and half JetStream. */
  readonly rate: number
}

const number = z.int().nonnegative()
const told = { core: number, requests: z.object({ sent: number, failed: number }) }
const life = { node: z.string(), life: number }

/** Lines that are for the account; services tell what their agents do, too. */
export const serviceEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('told'),
    ...life,
    ...told,
    server: z.string().optional(),
    received: z.array(z.tuple([number, number])),
  }),
  z.object({ type: z.literal('acknowledged'), ...life, numbers: z.array(number) }),
  z.object({
    type: z.literal('stored'),
    ...life,
    /** Life and number of the publisher, sequence on the stream. */
    numbers: z.tuple([number, number, number]),
  }),
  z.object({
    type: z.literal('marked'),
    ...life,
    ...told,
    mark: number,
    reasons: z.record(z.string(), number),
  }),
])
export type ServiceEvent = z.infer<typeof serviceEvent>
