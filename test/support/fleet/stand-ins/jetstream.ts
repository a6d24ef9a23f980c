import type { Connection } from '../connection.ts'

export { JetStreamApiError } from '@nats-io/jetstream'

export const jetstream = (connection: Connection) => ({
  publish: (subject: string, data: Uint8Array) => connection.store(subject, data),
})
