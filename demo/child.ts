/** A Node process of the demo: JSON lines from its stdout, its log in a file, and an end that comes with ours. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { RotorError } from '../src/errors.ts'
import { dieWithUs } from '../src/local/watchdog.ts'
import { formatDuration } from '../src/time.ts'

export type ChildEvent = { readonly type: string; readonly node?: string; readonly at?: string } & Readonly<
  Record<string, unknown>
>

export interface ChildOptions {
  readonly name: string
  /** Module of this project, relative to its root, without extension. */
  readonly module: string
  readonly args: readonly string[]
  readonly logFile: string
  readonly onEvent: (event: ChildEvent) => void
  readonly env?: Readonly<Record<string, string>>
  /** A command that ends in executing its further arguments: ours is run by it. @default none */
  readonly under?: readonly string[]
}

const PATIENCE = 15_000

export class Child {
  readonly name: string
  readonly logFile: string
  /** Exit code or signal; never rejects. */
  readonly exited: Promise<string>
  readonly #process: ChildProcess
  readonly #seen = new Set<string>()
  readonly #waiters = new Set<() => void>()
  #ended: string | null = null

  private constructor(options: ChildOptions, process: ChildProcess) {
    this.name = options.name
    this.logFile = options.logFile
    this.#process = process
    this.exited = once(process, 'close').then(([code, signal]) => {
      this.#ended = String(signal ?? code)
      for (const wake of this.#waiters) wake()
      return this.#ended
    })
    if (process.stdout !== null) {
      createInterface({ input: process.stdout }).on('line', (line) => this.#take(line, options.onEvent))
    }
  }

  static async start(options: ChildOptions): Promise<Child> {
    const log = await open(options.logFile, 'a')
    try {
      const node = [globalThis.process.execPath, '--disable-warning=ExperimentalWarning']
      const [program = '', ...args] = [...(options.under ?? []), ...node, modulePath(options.module)]
      const process = spawn(program, [...args, ...options.args], {
        stdio: ['pipe', 'pipe', log.fd],
        // A group of its own: Ctrl-C is for us, and we stop everything in our order.
        detached: true,
        env: { ...globalThis.process.env, ...options.env },
      })
      await once(process, 'spawn')
      process.stdin?.on('error', () => {})
      dieWithUs(process)
      return new Child(options, process)
    } finally {
      await log.close()
    }
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  get ended(): boolean {
    return this.#ended !== null
  }

  /** Returns when an event of this type has come. Throws with the last lines of its log when it ends before. */
  async started(type: string, signal: AbortSignal, timeout = 30_000): Promise<void> {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeout)])
    while (!this.#seen.has(type)) {
      if (this.#ended !== null)
        throw new RotorError(
          'ERR_INTERNAL',
          `${this.name} ended with ${this.#ended}: ${await this.#lastWords()}`,
        )
      if (deadline.aborted) {
        signal.throwIfAborted()
        throw new RotorError(
          'ERR_INTERNAL',
          `${this.name} did not say "${type}" within ${formatDuration(timeout)}: ${await this.#lastWords()}`,
        )
      }
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiters.add(resolve)
      deadline.addEventListener('abort', () => resolve(), { once: true })
      await promise
      this.#waiters.delete(resolve)
    }
  }

  send(command: string): void {
    this.#process.stdin?.write(`${command}\n`)
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** SIGTERM, and SIGKILL when it does not end. */
  async stop(): Promise<void> {
    if (this.#ended === null) this.#process.kill('SIGTERM')
    const hang = setTimeout(() => this.#process.kill('SIGKILL'), PATIENCE)
    await this.exited
    clearTimeout(hang)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #take(line: string, onEvent: (event: ChildEvent) => void): void {
    let event: ChildEvent
    try {
      event = JSON.parse(line)
    } catch {
      return
    }
    this.#seen.add(event.type)
    for (const wake of this.#waiters) wake()
    onEvent(event)
  }

  async #lastWords(): Promise<string> {
    return (await readFile(this.logFile, 'utf8').catch(() => '')).slice(-1500)
  }
}

/** The module in the form we run in: TypeScript sources, or JavaScript in `dist`. */
function modulePath(module: string): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return fileURLToPath(new URL(`../${module}.${extension}`, import.meta.url))
}
