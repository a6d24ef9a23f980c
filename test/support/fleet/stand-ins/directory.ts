import { currentMachine } from '../agent-machine.ts'

export const openDirectory = async () => currentMachine().disk
