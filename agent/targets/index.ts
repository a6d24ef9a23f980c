/** From a target's configuration to the target. */
import type { TargetConfig } from '../../src/domain/config.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { execTarget } from './exec.ts'
import { httpTarget } from './http.ts'
import { natsServerTarget } from './nats-server.ts'
import { signalTarget } from './signal.ts'
import type { Target } from './target.ts'

export function makeTarget(config: TargetConfig, initial: IdentitySnapshot): Target {
  switch (config.type) {
    case 'nats-server':
      return natsServerTarget(config, initial)
    case 'signal':
      return signalTarget(config, initial)
    case 'exec':
      return execTarget(config, initial)
    case 'http':
      return httpTarget(config, initial)
  }
}
