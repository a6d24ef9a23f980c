/**
 * The control connection of an issuer or agent, as something that can be replaced: what runs on it is attached, and
 * moves along. The new connection is opened and used before the old one is given up, so a step that fails on the
 * new material leaves the old connection working.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { RotorError } from '../errors.ts'
import type { Logger } from '../log.ts'
import { Backoff, retry } from '../tasks.ts'
import { type Duration, sleep } from '../time.ts'

/** Starts something on a connection; the returned function stops it there, without closing the connection. */
export type Attachment = (nc: NatsConnection) => Promise<() => Promise<void>>

type Open = (avoid?: string, signal?: AbortSignal) => Promise<NatsConnection>

/** About three seconds in all. */
const ATTACH_TRIES = 10

/** How long a connection may take for its last words, milliseconds: one that leads nowhere would take minutes. */
const LAST_WORDS: Duration = 3_000

interface Session {
  readonly nc: NatsConnection
  readonly detach: Map<Attachment, () => Promise<void>>
}

export class Link {
  readonly #open: Open
  readonly #logger: Logger
  readonly #attachments = new Set<Attachment>()
  readonly #waiting = new Set<() => void>()
  #session: Session | null = null
  #turn: Promise<unknown> = Promise.resolve()

  /**
   * `open` dials with the newest identity; it is called for the first connection and for each renewal. `avoid`: the
   * server that should be the last choice, as `getServer` tells it; `signal`: gives the dial up.
   */
  constructor(open: Open, logger: Logger) {
    this.#open = open
    this.#logger = logger
  }

  /** The live connection. Throws ERR_NATS_UNAVAILABLE while there is none. */
  get nc(): NatsConnection {
    if (this.#session === null)
      throw new RotorError('ERR_NATS_UNAVAILABLE', 'no control connection to NATS at the moment')
    return this.#session.nc
  }

  get connected(): boolean {
    return this.#session !== null
  }

  /** Resolves with the connection, at once or when there is one. */
  async ready(signal: AbortSignal): Promise<NatsConnection> {
    while (this.#session === null) {
      signal.throwIfAborted()
      const wake = Promise.withResolvers<void>()
      this.#waiting.add(wake.resolve)
      signal.addEventListener('abort', () => wake.resolve(), { once: true })
      await wake.promise
      this.#waiting.delete(wake.resolve)
    }
    return this.#session.nc
  }

  /** Runs `attachment` on the present connection and on every later one. */
  attach(attachment: Attachment): Promise<void> {
    return this.#alone(async () => {
      this.#attachments.add(attachment)
      if (this.#session !== null) this.#session.detach.set(attachment, await attachment(this.#session.nc))
    })
  }

  /**
   * Moves everything to a new connection: `dialled`, which is the link's from then on, or one that is dialled now.
   * Returns `retire`, which closes the old one: what is still to be said on it (an acknowledgement) can be said before.
   * When the new one can not be used this throws, and nothing changed.
   */
  async renew(dialled?: NatsConnection): Promise<() => Promise<void>> {
    const old = await this.#replace(dialled)
    return async () => {
      if (old !== null) await drain(old.nc)
    }
  }

  /** Returns the session that was used until now, with nothing on it. */
  #replace(dialled: NatsConnection | undefined, isSilent = false): Promise<Session | null> {
    return this.#alone(async () => {
      const old = this.#session
      const next = await this.#start(dialled)
      this.#use(next)
      if (old === null) return null
      // what runs on it would ask it to stop, and wait for the answer
      if (isSilent) await old.nc.close()
      await detachAll(old, this.#logger)
      return old
    })
  }

  /**
   * Moves everything to a new connection, to another server if one can be used. For a connection that lives while what
   * is asked on it gets no answer: a server can lose answers and subscriptions in a reload (agent/targets/sighup.ts),
   * and what is subscribed anew is made known again. When nothing can be dialled the old one stays.
   */
  async leave(signal: AbortSignal): Promise<void> {
    const avoid = this.#session?.nc.getServer()
    if (avoid === undefined) return
    try {
      const dialled = await this.#open(avoid, signal)
      // a link that has been stopped takes nothing any more
      if (signal.aborted) return await dialled.close()
      await this.#replace(dialled, true)
      this.#logger.warn(
        { code: 'ERR_NATS_UNAVAILABLE', from: avoid, to: dialled.getServer() },
        'no answers on the control connection, a new one is used',
      )
    } catch (cause) {
      this.#logger.debug({ err: String(cause) }, 'the control connection stays where it is')
    }
  }

  /** A connection with the newest identity, to be given to `renew`. Who does not give it closes it. */
  dial(): Promise<NatsConnection> {
    return this.#open()
  }

  /** Keeps a connection up until `signal` aborts, then detaches and drains. */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ base: 200, max: 10_000 })
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener('abort', () => resolve(), { once: true }),
    )
    while (!signal.aborted) {
      try {
        if (this.#session === null) await this.#alone(async () => this.#use(await this.#start()))
        backoff.reset()
        const session: Session | null = this.#session
        if (session === null) continue
        await Promise.race([session.nc.closed(), aborted])
        if (!signal.aborted && this.#session === session) {
          this.#session = null
          this.#logger.warn(
            { code: 'ERR_NATS_UNAVAILABLE' },
            'the control connection was closed, opening a new one',
          )
        }
      } catch (cause) {
        const error = RotorError.from(cause, 'ERR_NATS_UNAVAILABLE')
        this.#logger.warn({ code: error.code, err: error.message }, 'no control connection to NATS yet')
        await backoff.wait(signal).catch(() => {})
      }
    }
    await this.#alone(() => this.#stop())
  }

  async #start(dialled?: NatsConnection): Promise<Session> {
    const session: Session = { nc: dialled ?? (await this.#open()), detach: new Map() }
    try {
      await Promise.all(
        [...this.#attachments].map(async (attachment) => {
          session.detach.set(attachment, await patiently(attachment, session.nc))
        }),
      )
      return session
    } catch (cause) {
      await session.nc.close()
      throw cause
    }
  }

  #use(session: Session): void {
    this.#session = session
    for (const wake of this.#waiting) wake()
  }

  async #stop(): Promise<void> {
    const session = this.#session
    this.#session = null
    if (session === null || session.nc.isClosed()) return
    await detachAll(session, this.#logger)
    await drain(session.nc)
  }

  /** One change of connection at a time. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work)
    this.#turn = result.catch(() => {})
    return result
  }
}

/** A server that reloads says "jetstream is not enabled" for a moment: that is no reason to give a connection up. */
const patiently = (attachment: Attachment, nc: NatsConnection): Promise<() => Promise<void>> =>
  retry(() => attachment(nc), { tries: ATTACH_TRIES, worthwhile: () => !nc.isClosed() })

async function detachAll(session: Session, logger: Logger): Promise<void> {
  const detached = Promise.all(
    [...session.detach.values()].map((detach) =>
      detach().catch((cause) =>
        logger.debug({ err: String(cause) }, 'detaching from a connection that is gone'),
      ),
    ),
  )
  // with the connection everything on it ends; nats.js leaves a drain that was begun before without an answer
  if (!(await isSoon(detached))) await session.nc.close()
}

/** One that does not answer is closed as it is. */
async function drain(nc: NatsConnection): Promise<void> {
  if (nc.isClosed()) return
  const drained = nc.drain().catch(() => {})
  await isSoon(drained)
  if (!nc.isClosed()) await nc.close()
}

async function isSoon(work: Promise<unknown>): Promise<boolean> {
  const enough = new AbortController()
  try {
    return await Promise.race([work.then(() => true), sleep(LAST_WORDS, enough.signal).then(() => false)])
  } finally {
    enough.abort()
  }
}
