/**
 * A whole trust domain on this machine: real nats-servers, an issuer, an agent for each node, each in its own
 * process, in one directory. The demo, the tests and the benchmarks run on it.
 */
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Founded, found, ISSUER, type ServerPlan, type ServicePlan } from '../issuer/founding/found.ts'
import { type NatsBinary, type NatsServerProcess, startNatsServer } from '../src/local/nats-server.ts'
import { freePorts } from '../src/local/ports.ts'
import { makeSchedule, type Schedule } from '../src/schedule.ts'
import { Child, type ChildEvent, type ChildOptions } from './child.ts'
import { type LocalOpenBao, startLocalOpenBao } from './openbao.ts'

export const AUTHORITY_KINDS = ['embedded', 'openbao'] as const
export type AuthorityKind = (typeof AUTHORITY_KINDS)[number]

export interface LocalDomainOptions {
  /** Milliseconds. */
  readonly epochDuration: number
  /** @default from epochDuration */
  readonly schedule?: Partial<Schedule>
  /** @default 3 */
  readonly servers?: number
  /** A name for the machine of each server. @default all of them are on 127.0.0.1 */
  readonly hosts?: readonly string[]
  readonly services?: readonly ServicePlan[]
  /** @default one, `issuer` */
  readonly issuers?: readonly string[]
  /** @default the newest nats-server */
  readonly binary?: NatsBinary
  /** `openbao`: authorities are made in a real OpenBao, started for this domain. @default 'embedded' */
  readonly authority?: AuthorityKind
  /** Encrypts the keys of the domain; a file. @default none */
  readonly passphraseFile?: string
  /** @default a temporary one, removed at the end */
  readonly dir?: string
  readonly policy?: { readonly goOnBelow?: string; readonly retireAfter?: string }
  /** Every event of every process. */
  readonly onEvent?: (event: ChildEvent) => void
}

type ProcessOptions = Pick<ChildOptions, 'env' | 'under'>

export interface LocalDomain extends AsyncDisposable {
  readonly dir: string
  readonly name: string
  readonly schedule: Schedule
  readonly founded: Founded
  readonly plans: readonly ServerPlan[]
  /** Replaced in place when a server is started again. */
  readonly servers: NatsServerProcess[]
  readonly children: ReadonlyMap<string, Child>
  /** null with the embedded authority. */
  readonly openBao: LocalOpenBao | null
  startServers(): Promise<void>
  startServer(index: number): Promise<void>
  startIssuer(args?: readonly string[], more?: ProcessOptions): Promise<Child>
  startAgent(name: string, args?: readonly string[], more?: ProcessOptions): Promise<Child>
  /** Any process of ours; it ends with the domain. */
  start(name: string, module: string, args: readonly string[], more?: ProcessOptions): Promise<Child>
  logFile(name: string): string
  stop(): Promise<void>
}

const DOMAIN = 'demo'

/** Founds the domain and lays out its files; starts nothing yet. */
export async function makeLocalDomain(options: LocalDomainOptions): Promise<LocalDomain> {
  const count = options.servers ?? 3
  const root = options.dir === undefined ? await mkdtemp(join(tmpdir(), 'nats-rotor-')) : resolve(options.dir)
  const dir = join(root, 'domain')
  const logs = join(root, 'logs')
  await mkdir(logs, { recursive: true })
  const ports = await freePorts(2 * count)
  const plans = Array.from({ length: count }, (_, i) => ({
    name: `nats-${i + 1}`,
    host: options.hosts?.[i] ?? '127.0.0.1',
    clientPort: ports[i] ?? 0,
    clusterPort: ports[count + i] ?? 0,
  }))
  const { openBao, schedule, founded } = await foundDomain(options, root, dir, plans)
  // A second Ctrl-C ends this process at once; the kernel ends the others then, and the files go here.
  const removeNow = () => rmSync(root, { recursive: true, force: true })
  if (options.dir === undefined) process.once('exit', removeNow)

  const servers: NatsServerProcess[] = []
  const children = new Map<string, Child>()
  const logFile = (name: string) => join(logs, `${name}.log`)
  const domain: LocalDomain = {
    dir,
    name: DOMAIN,
    schedule,
    founded,
    plans,
    servers,
    children,
    openBao,
    logFile,
    startServers: async () => {
      await Promise.all(plans.map((_, i) => domain.startServer(i)))
    },
    startServer: async (index) => {
      const name = `nats-${index + 1}`
      servers[index] = await startNatsServer({
        name,
        cwd: join(dir, 'servers', name),
        configFile: 'nats-server.conf',
        logFile: logFile(name),
        ...(count === 1 ? { args: ['--cluster', ''] } : {}),
        ...(options.binary === undefined ? {} : { binary: options.binary }),
      })
    },
    startIssuer: (args = [], more) =>
      domain.start(ISSUER, 'cli/main', ['issuer', '--config', founded.issuerConfig, '--json', ...args], more),
    startAgent: (name, args = [], more) => {
      const config = founded.agentConfigs[name]
      if (config === undefined) throw new TypeError(`no such node: ${name}`)
      return domain.start(`agent-${name}`, 'cli/main', ['agent', '--config', config, '--json', ...args], more)
    },
    start: async (name, module, args, more) => {
      const child = await Child.start({
        name,
        module,
        args,
        logFile: logFile(name),
        onEvent: options.onEvent ?? (() => {}),
        ...more,
      })
      children.set(name, child)
      return child
    },
    stop: async () => {
      await Promise.all([...children.values()].map((child) => child.stop()))
      await Promise.all(servers.map((server) => server.stop()))
      await openBao?.[Symbol.asyncDispose]()
      process.off('exit', removeNow)
      if (options.dir === undefined) await rm(root, { recursive: true, force: true })
    },
    [Symbol.asyncDispose]: () => domain.stop(),
  }
  return domain
}

/** With OpenBao its epochs begin when it is set up: that takes a while, and they may be seconds long. */
async function foundDomain(
  options: LocalDomainOptions,
  root: string,
  dir: string,
  plans: readonly ServerPlan[],
): Promise<{ openBao: LocalOpenBao | null; schedule: Schedule; founded: Founded }> {
  const { epochDuration, policy } = options
  const { lead } = makeSchedule({ epochZero: 0, ...options.schedule, epochDuration })
  const openBao =
    options.authority === 'openbao'
      ? await startLocalOpenBao({ domain: DOMAIN, dir: join(root, 'openbao'), skew: lead })
      : null
  try {
    const schedule = makeSchedule({ epochZero: Date.now(), ...options.schedule, epochDuration })
    const founded = await found({
      domain: DOMAIN,
      out: dir,
      schedule,
      ...(options.issuers === undefined ? {} : { issuers: options.issuers }),
      servers: plans,
      services: options.services ?? [],
      ...(openBao === null ? {} : { vault: openBao.config }),
      ...(policy === undefined ? {} : { policy }),
      ...(options.passphraseFile === undefined ? {} : { passphraseFile: options.passphraseFile }),
    })
    return { openBao, schedule, founded }
  } catch (cause) {
    await openBao?.[Symbol.asyncDispose]()
    throw cause
  }
}

/** Changes a JSON file: tests and the demo give an agent its targets with it. */
export async function editJson(file: string, change: Record<string, unknown>): Promise<void> {
  const value = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, `${JSON.stringify({ ...value, ...change }, null, 2)}\n`)
}
