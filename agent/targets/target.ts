/** The port to what an agent must move to a new generation. */
import type { NatsConnection } from '@nats-io/transport-node'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import type { TargetStatus } from '../../src/wire/status.ts'

export interface TargetContext {
  /** The generation that is current on disk now. */
  readonly identity: IdentitySnapshot
  /** The agent's control connection. */
  readonly nc: NatsConnection
  /** A connection of the agent's user to this server and no other; who asks for it closes it. */
  readonly dial: (server: string) => Promise<NatsConnection>
  readonly signal: AbortSignal
}

/** `notify` and `prove` may be called again with the previous generation to put things back. */
export interface Target {
  readonly type: string
  readonly name: string
  /** Only one agent of the domain may change a target of this kind at a time. */
  readonly exclusive: boolean
  /** Throws ERR_TARGET_UNREACHABLE when this target can not work as configured; called once at start. */
  check(signal: AbortSignal): Promise<void>
  /** Tells the target that the files changed. Throws ERR_RELOAD_REFUSED or ERR_NOTIFY_FAILED. */
  notify(context: TargetContext): Promise<void>
  /** Proves that the target uses this generation. Throws ERR_PROOF_FAILED or the code of the probe. */
  prove(context: TargetContext): Promise<TargetStatus>
}
