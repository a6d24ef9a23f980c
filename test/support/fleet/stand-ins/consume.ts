import { currentMachine } from '../agent-machine.ts'
import type { Delivery } from '../broker.ts'
import type { Connection } from '../connection.ts'

export { ACK_WAIT } from '../../../../agent/consume.ts'

export const consumeBundles =
  (options: { readonly handle: (message: Delivery) => Promise<void> }) => async (connection: Connection) =>
    currentMachine().consume(connection, options.handle)
