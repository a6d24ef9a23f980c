/** A real OpenBao on this machine, for the demo and the tests: start, seal, unseal, pause, stop. */
import type { ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findServer, howToGet, installServer } from '../../scripts/servers.mjs'
import { RotorError } from '../errors.ts'
import { type ExchangeAnswer, exchange } from '../http-exchange.ts'
import { type Duration, sleep } from '../time.ts'
import { freePorts } from './ports.ts'
import { exitOf, hasEnded, type ProcessExit, spawnLogged, stopProcess, tail } from './process.ts'

export interface BaoOptions {
  /** `bao server -dev`: in memory and unsealed from its start. @default false: on disk (raft), initialised by us */
  readonly dev?: boolean
  /** @default a temporary one, removed with the server */
  readonly dir?: string
  /** PEM; not with `dev`. @default plain HTTP */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly ca: string }
}

export interface BaoServer extends AsyncDisposable {
  /** `http://127.0.0.1:port`, or `https:` */
  readonly address: string
  readonly rootToken: string
  readonly pid: number
  readonly version: string
  readonly dir: string
  readonly logFile: string
  /** What must never be found anywhere: root token and unseal key. */
  readonly secrets: readonly string[]
  seal(): Promise<void>
  unseal(): Promise<void>
  /** It keeps its connections and answers nothing. */
  pause(): void
  resume(): void
  /** Returns when the process has ended; more than once is fine. */
  stop(): Promise<void>
  /** Again after `stop`, at the same address, unsealed. Only from a disk: memory is gone with the process. */
  start(): Promise<void>
}

const HOST = '127.0.0.1'
const PATIENCE: Duration = 30_000
const POLL: Duration = 25
const MAX_ANSWER = 1024 * 1024

/** Gets the binary when there is none, as the setup script does. Throws ERR_BINARY_MISSING. */
export function ensureBao(): void {
  try {
    if (findServer('bao') === null) installServer('bao')
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_BINARY_MISSING', 'bao')
  }
}

/** Throws ERR_BINARY_MISSING that names the variable and the command. */
function findBao(): { path: string; version: string } {
  const { variable, command } = howToGet('bao')
  let reason = `no bao in ${variable}, on PATH or in .servers`
  try {
    const found = findServer('bao')
    if (found !== null) return found
  } catch (cause) {
    reason = cause instanceof Error ? cause.message : String(cause)
  }
  throw new RotorError('ERR_BINARY_MISSING', `${reason}; run \`${command}\`, or set ${variable} to a binary`)
}

/**
 * Returns when it is unsealed and answers. It ends with this process, also when that one is killed. Its keys are on no
 * command line. Throws ERR_BINARY_MISSING, or ERR_AUTHORITY_UNAVAILABLE with the end of its log.
 */
export async function startBao(options: BaoOptions = {}): Promise<BaoServer> {
  const binary = findBao()
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'rotor-bao-')))
  await mkdir(join(dir, 'data'), { recursive: true, mode: 0o700 })
  const [port = 0, clusterPort = 0] = await freePorts(2)
  const server = new LocalBao(binary, dir, { port, clusterPort }, options)
  try {
    await server.begin()
    return server
  } catch (cause) {
    await server[Symbol.asyncDispose]()
    throw cause
  }
}

class LocalBao implements BaoServer {
  readonly address: string
  readonly version: string
  readonly dir: string
  readonly logFile: string
  rootToken = 'dev-root-token'
  #unsealKey = ''
  readonly #path: string
  readonly #options: BaoOptions
  readonly #ports: { readonly port: number; readonly clusterPort: number }
  #process: ChildProcess | null = null
  #exited: Promise<ProcessExit> | null = null

  constructor(
    binary: { path: string; version: string },
    dir: string,
    ports: { port: number; clusterPort: number },
    options: BaoOptions,
  ) {
    this.#path = binary.path
    this.version = binary.version
    this.dir = dir
    this.logFile = join(dir, 'bao.log')
    this.#options = options
    this.#ports = ports
    this.address = `${options.tls === undefined ? 'http' : 'https'}://${HOST}:${ports.port}`
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  get secrets(): string[] {
    return [this.rootToken, this.#unsealKey].filter((secret) => secret !== '')
  }

  async begin(): Promise<void> {
    await this.#writeConfig()
    await this.#spawn()
    if (this.#options.dev === true) return
    const made = await this.#call('PUT', 'sys/init', { secret_shares: 1, secret_threshold: 1 })
    const { root_token, keys_base64 } = JSON.parse(made.text)
    this.rootToken = String(root_token)
    this.#unsealKey = String(keys_base64[0])
    await this.unseal()
  }

  async start(): Promise<void> {
    if (this.#options.dev === true) throw new TypeError('a dev server has nothing to start again from')
    if (this.#process !== null && !hasEnded(this.#process)) throw new TypeError('it runs already')
    await this.#spawn()
    await this.unseal()
  }

  async seal(): Promise<void> {
    await this.#call('PUT', 'sys/seal', undefined, this.rootToken)
  }

  async unseal(): Promise<void> {
    if (this.#options.dev === true) throw new TypeError('a dev server is not ours to unseal')
    await this.#call('PUT', 'sys/unseal', { key: this.#unsealKey })
    // it becomes active a moment after it is unsealed
    await this.#until('was not active', async () => (await this.#ask('GET', 'sys/health')).status === 200)
  }

  pause(): void {
    this.#process?.kill('SIGSTOP')
  }

  resume(): void {
    this.#process?.kill('SIGCONT')
  }

  async stop(): Promise<void> {
    if (this.#process === null || this.#exited === null) return
    // a paused one could not end in order
    this.resume()
    await stopProcess(this.#process, this.#exited)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    if (this.#options.dir === undefined) await rm(this.dir, { recursive: true, force: true })
  }

  async #writeConfig(): Promise<void> {
    const { dev, tls } = this.#options
    if (dev === true) return
    const at = (name: string) => join(this.dir, name)
    if (tls !== undefined) {
      await writeFile(at('tls.crt'), tls.certificate)
      await writeFile(at('tls.key'), tls.key, { mode: 0o600 })
    }
    const config = {
      // a single node waits for others before it elects itself: with 1, a second or two instead of ten
      storage: { raft: { path: at('data'), node_id: 'local', performance_multiplier: '1' } },
      listener: {
        tcp: {
          address: `${HOST}:${this.#ports.port}`,
          ...(tls === undefined
            ? { tls_disable: true }
            : { tls_cert_file: at('tls.crt'), tls_key_file: at('tls.key') }),
        },
      },
      api_addr: this.address,
      cluster_addr: `https://${HOST}:${this.#ports.clusterPort}`,
    }
    await writeFile(at('config.json'), JSON.stringify(config), { mode: 0o600 })
  }

  async #spawn(): Promise<void> {
    const dev = this.#options.dev === true
    this.#process = await spawnLogged({
      path: this.#path,
      args: [
        'server',
        ...(dev ? ['-dev', '-dev-no-store-token'] : [`-config=${join(this.dir, 'config.json')}`]),
      ],
      cwd: this.dir,
      logFile: this.logFile,
      env: {
        PATH: process.env.PATH,
        HOME: this.dir,
        ...(dev
          ? { BAO_DEV_ROOT_TOKEN_ID: this.rootToken, BAO_DEV_LISTEN_ADDRESS: `${HOST}:${this.#ports.port}` }
          : {}),
      },
      // a dev server prints its token and its key
      ...(dev ? { stdout: 'ignore' } : {}),
    })
    this.#exited = exitOf(this.#process)
    const health = 'sys/health?standbyok=true&sealedcode=200&uninitcode=200'
    await this.#until('was not ready', async () => (await this.#ask('GET', health)).status === 200)
  }

  async #until(missing: string, check: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + PATIENCE
    while (!(await check().catch(() => false))) {
      const ended = this.#process === null || hasEnded(this.#process)
      if (ended || performance.now() > end) {
        const what = ended ? 'ended at its start' : `${missing} after ${PATIENCE} ms`
        throw new RotorError(
          'ERR_AUTHORITY_UNAVAILABLE',
          `bao ${what}; the end of ${this.logFile}:\n${await tail(this.logFile)}`,
        )
      }
      await sleep(POLL)
    }
  }

  async #call(method: string, path: string, json?: unknown, token?: string): Promise<ExchangeAnswer> {
    const answer = await this.#ask(method, path, json, token)
    if (answer.status >= 300) {
      throw new RotorError('ERR_AUTHORITY_REFUSED', `${this.address}/v1/${path}: status ${answer.status}`)
    }
    return answer
  }

  #ask(method: string, path: string, json?: unknown, token?: string): Promise<ExchangeAnswer> {
    const { tls } = this.#options
    return exchange({
      url: `${this.address}/v1/${path}`,
      method,
      json,
      headers: token === undefined ? {} : { 'x-vault-token': token },
      timeout: 10_000,
      maxAnswer: MAX_ANSWER,
      ...(tls === undefined ? {} : { tls: { ca: tls.ca } }),
    })
  }
}
