/**
 * What does this directory hold, now and after each change? An identity that follows files which somebody else writes:
 * an agent of ours, cert-manager through a Kubernetes volume, Vault Agent, a script.
 */
import { resolve } from 'node:path'
import { Bell } from '../bell.ts'
import { RotorError } from '../errors.ts'
import { type Logger, silentLogger } from '../log.ts'
import { type Clock, type Duration, sleep, systemClock } from '../time.ts'
import { HeldIdentity, type Identity } from './identity.ts'
import { CURRENT, type FileNames } from './layout.ts'
import { fileNames, followsCurrent, type ReadOptions, readIdentity } from './read.ts'
import { watchPoints } from './watch-points.ts'
import { Watchers } from './watchers.ts'

export interface WatchOptions extends Omit<ReadOptions, 'signal'> {
  /**
   * How often to look without being told, a minute at most: what the file system does not report is found then.
   * @default 5 s
   */
  readonly poll?: Duration
  /** Told of each change and of each problem, once. @default no log */
  readonly logger?: Logger
  /** Called once for each distinct problem, while the last good set stays in use. @default nothing */
  readonly onProblem?: (problem: RotorError) => void
  /** Ends the first read, and later the watching, as `close` does. */
  readonly signal?: AbortSignal
  /** @default the system's */
  readonly clock?: Clock
}

export interface WatchedIdentity extends Identity, AsyncDisposable {
  /** Stops following. The last set stays in use. Resolves when no watcher, timer or read is left; idempotent. */
  close(): Promise<void>
}

const POLL: Duration = 5_000
/** A writer of several files makes several events: they are gathered this long. */
const GATHER: Duration = 25

/**
 * Reads the identity in `dir`, verified at the present time, and follows its changes until `close`. A set that is torn,
 * mismatched, ended or missing is told once and never taken; the last good one stays in use, and the files are read
 * again at the next change or poll. The first read has to succeed: throws what `readIdentity` throws.
 */
export async function watchIdentity(dir: string, options: WatchOptions = {}): Promise<WatchedIdentity> {
  const { poll = POLL, signal } = options
  if (!(poll > 0)) throw new TypeError(`poll: expected milliseconds, more than 0, found ${poll}`)
  signal?.throwIfAborted()
  const watch = new DirectoryWatch(dir, options)
  try {
    return await watch.start()
  } catch (cause) {
    await watch.close()
    throw cause
  }
}

class DirectoryWatch {
  readonly #dir: string
  readonly #options: WatchOptions
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #stop = new AbortController()
  readonly #changed = new Bell()
  readonly #watchers: Watchers
  readonly #abort = (): void => this.#stop.abort(this.#options.signal?.reason)
  #following: Promise<void> = Promise.resolve()
  /** The problem that was told last, in a form that stays the same while it lasts; null when all is well. */
  #told: string | null = null

  constructor(dir: string, options: WatchOptions) {
    this.#dir = resolve(dir)
    this.#options = options
    this.#logger = options.logger ?? silentLogger
    this.#clock = options.clock ?? systemClock
    this.#watchers = new Watchers(() => this.#changed.ring(), this.#logger)
    options.signal?.addEventListener('abort', this.#abort, { once: true })
  }

  async start(): Promise<WatchedIdentity> {
    await this.#watch()
    const held = new HeldIdentity(await this.#read(), this.#logger)
    this.#following = this.#follow(held)
    return watched(held, () => this.close())
  }

  async close(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#abort)
    this.#stop.abort(new RotorError('ERR_ABORTED', `${this.#dir}: the watch was closed`))
    await this.#following
    this.#watchers.close()
  }

  /** One loop, so that two reads never run at once; what changes during one is looked at after it. */
  async #follow(held: HeldIdentity): Promise<void> {
    const { signal } = this.#stop
    const poll = this.#options.poll ?? POLL
    while (!signal.aborted) {
      try {
        await this.#changed.wait(poll, signal)
        await sleep(GATHER, signal)
        await this.#watch()
        this.#take(held, await this.#read())
      } catch (cause) {
        if (!signal.aborted) this.#tell(RotorError.from(cause, 'ERR_IDENTITY_INVALID', this.#dir))
      }
    }
    this.#watchers.close()
  }

  #read(): ReturnType<typeof readIdentity> {
    const { skew, files, keyMode } = this.#options
    return readIdentity(this.#dir, this.#clock.now(), {
      ...(skew === undefined ? {} : { skew }),
      ...(files === undefined ? {} : { files }),
      ...(keyMode === undefined ? {} : { keyMode }),
      signal: this.#stop.signal,
    })
  }

  /** Before each read: what the watchers then see is newer than what is read. */
  async #watch(): Promise<void> {
    const { files } = this.#options
    const names: FileNames = await fileNames(this.#dir, files)
    const ours = followsCurrent(files) ? [CURRENT] : []
    const paths = [...ours, names.ca, names.certificate, names.key].map((name) => resolve(this.#dir, name))
    await this.#watchers.renew(await watchPoints([this.#dir, ...paths]))
  }

  #take(held: HeldIdentity, next: ReturnType<HeldIdentity['current']>): void {
    const before = held.current()
    held.set(next)
    const { generation, leaf } = next
    if (this.#told !== null || before.generation !== generation) {
      this.#logger.info({ dir: this.#dir, generation, leaf: leaf.sha256 }, 'the identity is read')
    }
    this.#told = null
  }

  #tell(problem: RotorError): void {
    // The time of day in a message makes no new problem.
    const known = `${problem.code} ${problem.message.replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '')}`
    if (this.#told === known) return
    this.#told = known
    const { code, message } = problem
    this.#logger.warn(
      { dir: this.#dir, code, err: message },
      'the files are not taken, the last good set stays',
    )
    try {
      this.#options.onProblem?.(problem)
    } catch (cause) {
      this.#logger.error({ err: cause }, 'a listener for problems of an identity failed')
    }
  }
}

const watched = (held: HeldIdentity, close: () => Promise<void>): WatchedIdentity => ({
  current: () => held.current(),
  onChange: (listener) => held.onChange(listener),
  join: (follower) => held.join(follower),
  followers: () => held.followers(),
  usage: () => held.usage(),
  close,
  [Symbol.asyncDispose]: close,
})
