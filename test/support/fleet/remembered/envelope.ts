import * as real from '../../../../src/bundle/envelope.ts'
import type { SignerKey } from '../../../../src/wire/bundle.ts'
import { outside } from '../timeline.ts'
import { remembered, textOf } from './memory.ts'

export * from '../../../../src/bundle/envelope.ts'

export const openEnvelope = remembered(
  (bytes: Uint8Array): real.Envelope => {
    const opened = real.openEnvelope(bytes)
    const verify = remembered(
      (key) => outside(opened.verify(key)),
      (key: SignerKey) => [key.kid, 'x' in key ? key.x : key.pub],
    )
    return { ...opened, verify }
  },
  (bytes) => [textOf(bytes)],
)
