/**
 * The stored state in the hands of who leads: read or recovered, and written with our fencing number only while the lease
 * is certain. So every write of a former leader is refused, because it was decided by an older revision.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import type { Clock } from '../../src/time.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import type { Lease } from '../lease/lease.ts'
import { type PublishedBundle, readState, type StoredState, writeState } from '../store.ts'
import { payloadOf } from './effects.ts'
import { type RecoveryOptions, recover } from './recovery.ts'

export interface FencedOptions extends Omit<RecoveryOptions, 'domain'> {
  readonly names: DomainNames
  readonly lease: Pick<Lease, 'assertLeads' | 'outrun'>
  readonly clock: Clock
  readonly logger: Logger
  /** The state was made again from this version of the kept bundles. */
  readonly rebuilt: (version: number) => void
}

export class FencedState {
  readonly #options: FencedOptions
  /** The state was compared with what is kept of the bundles. */
  #compared = false

  constructor(options: FencedOptions) {
    this.#options = options
  }

  /** What is kept of the bundles is looked at again: after a conflict that stays, and by a new leader. */
  doubt(): void {
    this.#compared = false
  }

  /** As it is stored; null before the first issuer wrote it. */
  read(nc: NatsConnection): Promise<StoredState | null> {
    return readState(nc, this.#options.names)
  }

  /**
   * The state to decide by, with our number in it: what was read, or what the kept bundles say when that is lost or older
   * than what agents have. Throws ERR_STATE_CONFLICT when a later leader wrote.
   */
  async take(
    nc: NatsConnection,
    fence: number,
    read: StoredState | null,
    published: PublishedBundle | null,
  ): Promise<StoredState> {
    const { names, lease } = this.#options
    if (read !== null && read.state.fence > fence) {
      lease.outrun(read.state.fence)
      throw new RotorError(
        'ERR_STATE_CONFLICT',
        `${names.stateBucket}: the leader with the fencing number ${read.state.fence} wrote, ours is ${fence}`,
      )
    }
    const right = read !== null && this.#compared ? read : await this.#compare(nc, fence, read, published)
    this.#compared = true
    if (right.state.fence === fence) return right
    return this.write(nc, { ...right.state, fence }, right.revision)
  }

  /** Compare-and-set. Throws ERR_STATE_CONFLICT. */
  async write(nc: NatsConnection, state: RotationState, revision: number): Promise<StoredState> {
    const { names, lease, signers } = this.#options
    lease.assertLeads(state.fence)
    const sealing = signers.of(payloadOf(state))
    return { state, revision: await writeState(nc, names, state, revision, sealing) }
  }

  async #compare(
    nc: NatsConnection,
    fence: number,
    read: StoredState | null,
    published: PublishedBundle | null,
  ): Promise<StoredState> {
    const { names, clock, logger, rebuilt } = this.#options
    const options = { ...this.#options, domain: names.domain }
    const found = await recover(read?.state ?? null, published, options, clock.now())
    if (found === null) {
      if (read === null) throw new RotorError('ERR_INTERNAL', 'no state was read and none was made')
      return read
    }
    const stored = await this.write(nc, { ...found.state, fence }, read?.revision ?? 0)
    if (found.rebuilt) {
      const { version, phase } = found.state
      logger.warn(
        { version, phase, had: read?.state.version ?? null },
        'the records were lost or too old; the rotation goes on from the newest kept bundle',
      )
      rebuilt(version)
    }
    return stored
  }
}
