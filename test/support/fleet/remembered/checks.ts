import * as real from '../../../../src/bundle/checks.ts'
import { remembered, textOf } from './memory.ts'

export * from '../../../../src/bundle/checks.ts'

export const readPayload = remembered(real.readPayload, (bytes) => [textOf(bytes)])
