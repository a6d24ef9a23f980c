import * as real from '../../../../src/bundle/envelope.ts'
import type { SignerKey } from '../../../../src/wire/bundle.ts'
import { outside } from '../timeline.ts'
import { remembered, textOf } from './memory.ts'

export * from '../../../../src/bundle/envelope.ts'

export const openEnvelope = remembered(
  (bytes: Uint8Array, typ?: string): real.Envelope => {
    const opened = real.openEnvelope(bytes, typ)
    const verify = remembered(
      (key) => outside(opened.verify(key)),
      (key: SignerKey) => [key.kid, 'x' in key ? key.x : key.pub],
    )
    return { ...opened, verify }
  },
  (bytes: Uint8Array, typ?: string) => [textOf(bytes), typ],
)

export const signBundle: typeof real.signBundle = (...given) => outside(real.signBundle(...given))
export const signText: typeof real.signText = (...given) => outside(real.signText(...given))
export const generateSigner: typeof real.generateSigner = (kind) => outside(real.generateSigner(kind))
