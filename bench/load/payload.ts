/**
 * The messages of the load: publisher and sequence, once at each end, so that a body that was cut, mixed up or
 * overwritten while it was held is found. No two are equal.
 */
export const PAYLOAD_BYTES = 128

export interface Numbered {
  readonly publisher: number
  readonly sequence: number
}

/** A new body for each message: what was published is not touched again. */
export function encodePayload(publisher: number, sequence: number): Uint8Array {
  const body = new Uint8Array(PAYLOAD_BYTES)
  const view = new DataView(body.buffer)
  view.setUint32(0, sequence)
  view.setUint32(4, publisher)
  view.setUint32(PAYLOAD_BYTES - 8, publisher)
  view.setUint32(PAYLOAD_BYTES - 4, sequence)
  return body
}

/** Null for anything that `encodePayload` did not make. */
export function decodePayload(body: Uint8Array): Numbered | null {
  if (body.length !== PAYLOAD_BYTES) return null
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const sequence = view.getUint32(0)
  const publisher = view.getUint32(4)
  const same =
    view.getUint32(PAYLOAD_BYTES - 8) === publisher && view.getUint32(PAYLOAD_BYTES - 4) === sequence
  return same ? { publisher, sequence } : null
}
