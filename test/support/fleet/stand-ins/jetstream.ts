import type { Connection } from '../connection.ts'

export const jetstream = (connection: Connection) => ({
  publish: (subject: string, data: Uint8Array) => connection.store(subject, data),
})
