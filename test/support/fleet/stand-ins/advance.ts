import { currentIssuer } from '../issuer-machine.ts'

type Decide = ReturnType<typeof currentIssuer>['decide']

export const advance: Decide = (...given) => currentIssuer().decide(...given)
