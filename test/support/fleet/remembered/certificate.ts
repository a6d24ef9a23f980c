import * as real from '../../../../src/trust/certificate.ts'
import { remembered, textOf } from './memory.ts'

export * from '../../../../src/trust/certificate.ts'

export const parseCertificate = remembered(real.parseCertificate, (given, what, code) => [
  typeof given === 'string' ? given : textOf(given),
  `${what}|${code}`,
])
