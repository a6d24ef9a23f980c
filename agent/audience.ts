/**
 * Who has to follow a new generation: the targets of the configuration, and in library mode what joined the identity
 * (connections, servers of the process). All are told, then each has to prove it.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../src/errors.ts'
import type { HeldIdentity } from '../src/identity/identity.ts'
import type { Logger } from '../src/log.ts'
import type { Link } from '../src/nats/link.ts'
import type { TargetStatus } from '../src/wire/status.ts'
import { followerTarget } from './targets/follower.ts'
import type { Target, TargetContext } from './targets/target.ts'

export interface AudienceParts {
  readonly targets: readonly Target[]
  readonly identity: HeldIdentity
  readonly link: Link
  /** A connection besides the link, to this server and no other. */
  readonly dialServer: (server: string, signal: AbortSignal) => Promise<NatsConnection>
  readonly logger: Logger
}

/** Called when a step begins. */
type OnStep = (step: 'notify' | 'prove') => void

export class Audience {
  readonly #p: AudienceParts

  constructor(parts: AudienceParts) {
    this.#p = parts
  }

  /** Has it a target that only one agent of the domain may change at a time? */
  get isExclusive(): boolean {
    return this.#p.targets.some((target) => target.exclusive)
  }

  /** Tells every target of the current generation, then has every target prove it. Throws the reason of the first that does not. */
  async convince(onStep: OnStep, signal: AbortSignal): Promise<TargetStatus[]> {
    const { targets, context } = await this.#gather(signal)
    onStep('notify')
    for (const target of targets) await target.notify(context)
    onStep('prove')
    const evidence: TargetStatus[] = []
    for (const target of targets) evidence.push(await target.prove(context))
    return evidence
  }

  /** Tells every target that the previous generation is back. One that does not hear it keeps it from no other. */
  async convinceAgain(onStep: OnStep, signal: AbortSignal): Promise<TargetStatus[]> {
    const { targets, context } = await this.#gather(signal)
    onStep('notify')
    const evidence: TargetStatus[] = []
    for (const target of targets) {
      const { type, name } = target
      try {
        await target.notify(context)
        evidence.push(await target.prove(context))
      } catch (cause) {
        const { code, message } = RotorError.from(cause)
        this.#p.logger.error(
          { code, err: message, target: name },
          'the previous generation could not be proven either',
        )
        evidence.push({ type, name, ok: false, evidence: `${code}: ${message}` })
      }
    }
    return evidence
  }

  async #gather(signal: AbortSignal): Promise<{ targets: Target[]; context: TargetContext }> {
    const { identity, link, dialServer } = this.#p
    // Who joins from here on is on the present material already.
    const targets = [...this.#p.targets, ...identity.followers().map((f) => followerTarget(f, identity))]
    const nc = await link.ready(signal)
    const dial = (server: string) => dialServer(server, signal)
    return { targets, context: { identity: identity.current(), nc, dial, signal } }
  }
}
