import { currentMachine } from '../agent-machine.ts'

export { withLast } from '../../../../src/nats/connect.ts'

export const connectWith = () => currentMachine().connect()
