/** A MSG as the connection reads it from the wire, for the models of the handoff. */
import type { MessageFrame } from '../../src/connection/handoff/overlap.ts'

/** The subscription of a model that has one. */
export const SID = 7

export const frame = (
  payload: string,
  { sid = SID, subject = 'a', reply = '', hdr = -1 } = {},
): MessageFrame => ({
  kind: 2,
  msg: { sid, subject: Buffer.from(subject), reply: Buffer.from(reply), hdr },
  data: Buffer.from(payload),
})

export const textOf = ({ data }: MessageFrame): string => Buffer.from(data).toString()
