import * as real from '../../../../src/trust/chain.ts'
import { remembered } from './memory.ts'

export * from '../../../../src/trust/chain.ts'

export const assertIssuedBy = remembered(real.assertIssuedBy, (child, issuer) => [
  child.sha256,
  issuer.sha256,
])
