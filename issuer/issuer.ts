/**
 * The issuer: one control connection, the lease, the rotation loop of who leads, and the answers to agents and operators,
 * which every issuer gives.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Bell } from '../src/bell.ts'
import { openEnvelope } from '../src/bundle/envelope.ts'
import type { IssuerConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Identity } from '../src/identity/identity.ts'
import type { Logger } from '../src/log.ts'
import { connectWith, withLast } from '../src/nats/connect.ts'
import { Link } from '../src/nats/link.ts'
import { runTasks } from '../src/tasks.ts'
import { type Clock, type Duration, sleep, systemClock } from '../src/time.ts'
import { domainNames } from '../src/wire/names.ts'
import { answersOf, isReached } from './answers.ts'
import type { Authority } from './authority/authority.ts'
import { type OpenAuthority, openAuthority } from './authority/open.ts'
import { Census } from './census/census.ts'
import { ControlConnection } from './control.ts'
import { historyOf } from './history/open.ts'
import { openJoining } from './join/joining.ts'
import type { JoinLimits } from './join/limits.ts'
import { Lease } from './lease/lease.ts'
import { liveWatch } from './live-watch.ts'
import type { IssuerEvent } from './loop/events.ts'
import { Loop } from './loop/loop.ts'
import { Prober } from './prober.ts'
import { Registry } from './registry.ts'
import { SignerStore } from './signers.ts'
import { Signing } from './signing/signing.ts'
import { Statuses } from './statuses.ts'
import { createStores, readState, STATE_KEY } from './store.ts'
import { turnFacts } from './turn-facts.ts'
import { Turns } from './turns.ts'
import { StateView } from './view.ts'

export interface IssuerOptions {
  readonly config: IssuerConfig
  /** The issuer's own identity, kept current by an agent beside it; the control connection follows it. */
  readonly identity: Identity
  readonly logger: Logger
  /** @default the one `config` names: embedded in `config.keys`, or `config.vault` */
  readonly authority?: Authority
  /** @default the system's */
  readonly clock?: Clock
  readonly onEvent?: (event: IssuerEvent) => void
  /** How often strangers may ask the join endpoint. @default 20 at once and 1 a second for an address, 200 and 20 for all */
  readonly joinLimits?: JoinLimits
}

export interface IssuerHandle extends AsyncDisposable {
  /** Rejects when the issuer can not go on; resolves after `stop`. */
  readonly done: Promise<void>
  stop(): Promise<void>
}

/** How often the issuer asks which servers there are, and itself. */
const LOOK_AROUND_EVERY: Duration = 15_000

/** Longest time to end what is under way and to give the lease back, milliseconds. */
const RESIGN_WITHIN: Duration = 3_000

/** Starts an issuer. Throws at once for what no waiting can mend: missing keys, a wrong passphrase, a refused login. */
export async function startIssuer(options: IssuerOptions): Promise<IssuerHandle> {
  const { config, logger, clock } = options
  const passphrase =
    config.passphraseFile === undefined ? undefined : (await readText(config.passphraseFile)).trimEnd()
  const opened = await openAuthority({
    ...config,
    permitted: config.authorities?.permitted,
    passphrase,
    logger,
    clock,
  })
  try {
    return await startWith(options, opened, passphrase)
  } catch (cause) {
    await opened[Symbol.asyncDispose]()
    throw cause
  }
}

async function startWith(
  options: IssuerOptions,
  opened: OpenAuthority,
  passphrase: string | undefined,
): Promise<IssuerHandle> {
  const { config, identity, logger } = options
  const clock = options.clock ?? systemClock
  const names = domainNames(config.domain)
  const authority = options.authority ?? opened.authority
  const signers = new SignerStore({ dir: config.keys, passphrase })
  await signers.refresh()
  const genesis = openEnvelope(Buffer.from(await readText(join(config.keys, 'genesis.jws'))))
  await authority.list().catch((cause) => {
    // The engine comes back, and the loop waits for it. Agents go on meanwhile.
    if (!RotorError.is(cause) || cause.code !== 'ERR_AUTHORITY_UNAVAILABLE') throw cause
    logger.warn({ code: cause.code, err: cause.message }, 'the authority does not answer yet')
  })

  const ownSubject = names.signSubject(config.name)
  const bell = new Bell()
  const statuses = new Statuses(names, logger, () => bell.ring())
  const registry = new Registry(names, config.agents, logger, () => bell.ring())
  const prober = new Prober({
    agents: () => registry.members(),
    authority,
    spiffeId: names.spiffeId(config.name),
    clock,
    logger,
  })
  const census = new Census({
    names,
    agents: () => registry.members(),
    statuses: () => statuses.all(),
    leads: () => lease.fence !== null,
    strangers: config.policy.strangers,
    counted: () => bell.ring(),
    clock,
    logger,
  })
  const lease = new Lease({
    names,
    name: config.name,
    duration: config.lease,
    clock,
    logger,
    changed: () => bell.ring(),
  })
  const view = new StateView({
    read: async () => (await readState(link.nc, names))?.state ?? null,
    maxAge: config.lease,
  })
  let stored = false
  const loop = new Loop({
    names,
    agents: () => registry.members().map((agent) => agent.name),
    authority,
    history: historyOf(config, opened.vault),
    spiffeId: names.spiffeId(config.name),
    storesLost: () => {
      stored = false
    },
    signers,
    policy: config.policy,
    genesis: Buffer.from(genesis.payload).toString('utf8'),
    prober,
    census,
    statuses,
    own: () => {
      const { epoch = null, leaf } = identity.current()
      return { name: config.name, epoch, notAfter: leaf.notAfter }
    },
    lease,
    view,
    bell,
    clock,
    logger,
    onEvent: (event) => {
      // those who wait for the first server may go on, or have waited for a version that was taken back
      const probed = event.type === 'effect' && event.effect.kind === 'probe-servers'
      if ((probed || event.type === 'commit') && event.when === 'after') turns.look()
      options.onEvent?.(event)
    },
  })
  const signing = new Signing({
    names,
    entryOf: (agent) => registry.entryOf(agent),
    authority,
    clock,
    logger,
    bundle: () => view.current(),
    tainted: () => view.tainted,
  })
  const turns = new Turns(
    names,
    clock,
    () => turnFacts({ view, registry, statuses, loop, clock }),
    (agent) => registry.assertNotRemoved(agent),
  )
  const stop = new AbortController()
  const resigned = Promise.withResolvers<void>()

  const link = new Link(async (avoid, signal) => {
    const made = identity.current()
    const nc = await connectWith({
      servers: withLast(config.servers, avoid),
      noRandomize: avoid !== undefined,
      signal,
      identity,
      handshakeFirst: config.handshakeFirst,
      name: `rotor-issuer-${config.name}`,
      inboxPrefix: names.inbox(config.name),
    })
    control.opened(nc, made)
    try {
      // once, and when they are gone: a later connection, in the middle of a rotation, must not wait for it
      if (!stored) await createStores(nc, names, config.replicas)
      stored = true
      return nc
    } catch (cause) {
      await nc.close()
      throw cause
    }
  }, logger)
  const control = new ControlConnection(config.name, link, clock)
  const joining = await openJoining({
    config,
    names,
    authority,
    signers,
    registry,
    statuses,
    passphrase,
    connection: (signal) => link.ready(signal),
    changed: () => bell.ring(),
    limits: options.joinLimits,
    clock,
    logger,
  })
  const part = identity.join(control)
  const answers = answersOf({
    names,
    ownSubject,
    signing,
    turns,
    joining,
    lease,
    clock,
    orders: {
      names,
      authority,
      signers,
      agents: () => registry.members().map(({ name }) => ({ name, status: statuses.get(name) })),
      clock,
      logger,
      accepted: (state) => {
        view.take(state, view.now())
        bell.ring()
      },
    },
  })
  await link.attach(statuses.attachment)
  await link.attach(registry.attachment)
  await link.attach(lease.attachment)
  const ring = () => bell.ring()
  await link.attach((nc) => liveWatch(nc, { bucket: names.stateBucket, key: STATE_KEY, take: ring, logger }))
  for (const attachment of answers) await link.attach(attachment)

  /** Aborts before `stop`: the lease is given back on a connection that still works. */
  const resign = new AbortController()
  const done = runTasks(stop.signal, [
    (signal) => link.run(signal),
    async (signal) => {
      const leading = AbortSignal.any([signal, resign.signal])
      try {
        await Promise.all([loop.run(link, leading), lease.run(link, leading)])
        if (link.connected) await lease.release(link.nc)
      } finally {
        resigned.resolve()
      }
    },
    (signal) => census.run(link, signal),
    async (signal) => {
      while (!signal.aborted) {
        await link.ready(signal)
        // it may have been dialled with a leaf that was replaced before it was ready
        await control
          .follow(identity.current())
          .catch((cause) => logger.debug({ err: String(cause) }, 'the control connection was not moved yet'))
        const nc = await link.ready(signal)
        await prober
          .discover(nc)
          .catch((cause) => logger.debug({ err: String(cause) }, 'no answer to the server ping'))
        if (!(await isReached(nc, ownSubject))) await link.leave(signal)
        await sleep(LOOK_AROUND_EVERY, signal)
      }
    },
  ])
  done.catch(() => {})
  const handle: IssuerHandle = {
    done,
    stop: async () => {
      const reason = new RotorError('ERR_ABORTED', 'the issuer was stopped')
      resign.abort(reason)
      // without NATS there is nobody to give it back to
      await Promise.race([resigned.promise, sleep(RESIGN_WITHIN, stop.signal).catch(() => {})])
      stop.abort(reason)
      await joining.close()
      await done.catch(() => {})
      part()
      await opened[Symbol.asyncDispose]()
    },
    [Symbol.asyncDispose]: () => handle.stop(),
  }
  return handle
}

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_AUTHORITY_MISSING', `expected ${file}: ${cause.message}`, { cause })
  })
}
