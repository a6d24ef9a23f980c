/** The service of `sidecar-service.ts` for a test: started, told how to behave, started again, ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../src/local/ports.ts'

const MAIN = fileURLToPath(new URL('sidecar-service.ts', import.meta.url))

export type Behaviour = 'good' | 'sick' | 'stale' | 'ignores' | 'dies' | 'fails' | 'hangs' | 'redirects'

export class Sidecar implements AsyncDisposable {
  readonly folder: string
  readonly #identity: string
  readonly #ports: readonly number[]
  #child: ChildProcess | null = null

  private constructor(folder: string, identity: string, ports: readonly number[]) {
    this.folder = folder
    this.#identity = identity
    this.#ports = ports
  }

  /** Starts it, good, with the three files of the folder `identity`. */
  static async start(identity: string): Promise<Sidecar> {
    const folder = await mkdtemp(join(tmpdir(), 'rotor-sidecar-'))
    const sidecar = new Sidecar(folder, identity, await freePorts(2))
    await sidecar.behave('good')
    await sidecar.restart()
    return sidecar
  }

  get pidFile(): string {
    return join(this.folder, 'service.pid')
  }

  /** `host:port` of its https listener. */
  get address(): string {
    return `127.0.0.1:${this.#ports[0]}`
  }

  /** `host:port` of its http listener. */
  get plainAddress(): string {
    return `127.0.0.1:${this.#ports[1]}`
  }

  get running(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }

  async behave(behaviour: Behaviour): Promise<void> {
    await writeFile(join(this.folder, 'behaviour'), behaviour)
  }

  /** With the files of this moment, on the same ports. */
  async restart(): Promise<void> {
    await this.#end()
    const args = [MAIN, this.#identity, this.folder, ...this.#ports.map(String)]
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#child = child
    const [first] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
    if (!Buffer.isBuffer(first)) throw new Error('the service did not start')
    await writeFile(this.pidFile, String(child.pid))
  }

  async #end(): Promise<void> {
    const child = this.#child
    if (child === null || !this.running) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
    await rm(this.folder, { recursive: true, force: true })
  }
}
