/** Keeps this agent's key in the status bucket current: always the newest, never two writes at a time. */
import { jetstream } from '@nats-io/jetstream'
import { Bell } from '../src/bell.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import type { Link } from '../src/nats/link.ts'
import { Backoff, Silence } from '../src/tasks.ts'
import { type Clock, type Duration, formatInstant } from '../src/time.ts'
import { encodeRecord } from '../src/wire/record.ts'
import type { AgentStatus } from '../src/wire/status.ts'

/**
 * How long the steps of an apply are gathered before they are told, milliseconds: what takes longer is still seen, and
 * a rotation does not cost every node ten replicated writes.
 */
const GATHER: Duration = 100

export class Reporter {
  readonly #subject: string
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #bell = new Bell()
  /** Somebody waits for the status to be stored. */
  readonly #urgent = new Bell()
  readonly #waiting = new Set<{ version: number; resolve: () => void }>()
  #status: AgentStatus
  #version = 1

  constructor(subject: string, initial: AgentStatus, clock: Clock, logger: Logger) {
    this.#subject = subject
    this.#status = initial
    this.#clock = clock
    this.#logger = logger
  }

  get status(): AgentStatus {
    return this.#status
  }

  /** Changes the status; it is published soon, together with what changes until then. */
  update(change: Partial<AgentStatus>): void {
    this.#status = { ...this.#status, ...change, at: formatInstant(this.#clock.now()) }
    this.#version += 1
    this.#bell.ring()
  }

  /** Resolves when the status as it is now has been stored. */
  async flush(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiter = { version: this.#version, resolve }
    this.#waiting.add(waiter)
    this.#bell.ring()
    this.#urgent.ring()
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(waiter)
    signal.throwIfAborted()
  }

  /**
   * Publishes until `signal` aborts; at least every `refresh` milliseconds, so that silence means something. For an agent
   * that has nothing else to do this is also how it finds that its connection leads nowhere, and leaves it.
   */
  async run(link: Pick<Link, 'ready' | 'leave'>, refresh: Duration, signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ base: 50, max: 2_000 })
    const silence = new Silence()
    let stored = 0
    while (!signal.aborted) {
      try {
        const nc = await link.ready(signal)
        const version = this.#version
        await jetstream(nc, { timeout: 3000 }).publish(this.#subject, encodeRecord(this.#status))
        stored = version
        backoff.reset()
        silence.reset()
        for (const waiter of this.#waiting) if (waiter.version <= stored) waiter.resolve()
        if (this.#version === stored) await this.#bell.wait(refresh, signal)
        if (this.#waiting.size === 0) await this.#urgent.wait(GATHER, signal)
      } catch (cause) {
        if (signal.aborted) return
        const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
        this.#logger.debug({ code: error.code, err: error.message }, 'the status was not stored yet')
        if (silence.count(error)) await link.leave(signal)
        await backoff.wait(signal).catch(() => {})
      }
    }
  }
}
