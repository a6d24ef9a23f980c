/** The agent: consumes bundles, applies the newest in single flight, acknowledges when it is proven, and reports. */
import { Bell } from '../src/bell.ts'
import type { AgentConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import { type IdentityDirectory, openDirectory } from '../src/identity/directory.ts'
import { HeldIdentity, type Identity } from '../src/identity/identity.ts'
import type { Logger } from '../src/log.ts'
import { type ConnectWithOptions, connectWith, withLast } from '../src/nats/connect.ts'
import { Link } from '../src/nats/link.ts'
import { makeSchedule } from '../src/schedule.ts'
import { runTasks } from '../src/tasks.ts'
import {
  type Clock,
  type Duration,
  formatInstant,
  sleep,
  systemClock,
  type Tick,
  tickOf,
} from '../src/time.ts'
import { SOFTWARE } from '../src/version.ts'
import { scheduleOf } from '../src/wire/bundle.ts'
import { domainNames } from '../src/wire/names.ts'
import type { AgentStatus } from '../src/wire/status.ts'
import { Acceptance } from './acceptance.ts'
import { Applier } from './apply.ts'
import { catchUp, withAdvice } from './catch-up.ts'
import { watchClock } from './clock.ts'
import { watchServerConfigs } from './config-watch.ts'
import { consumeBundles } from './consume.ts'
import { assertNotEnded, leftTrust, watchEnd } from './ended.ts'
import type { AgentEvent } from './events.ts'
import { Inbox } from './inbox.ts'
import { forgetJoinKey, isEnrolled, joinWith, tokenFor } from './join/join.ts'
import { untilRenewal } from './renewal.ts'
import { Reporter } from './reporter.ts'
import { makeTarget } from './targets/index.ts'
import type { Target } from './targets/target.ts'
import { watchUsage } from './usage.ts'
import { Work } from './work.ts'

export interface AgentOptions {
  readonly config: AgentConfig
  readonly logger: Logger
  /** Text of a join token: used when this node has no identity that a server would take. Secret. */
  readonly join?: string | undefined
  /**
   * A signed bundle, as `rotor bundle export` writes it: for a node that was away for so long that it trusts no server
   * any more. One that is not newer than what the node has changes nothing.
   */
  readonly bundle?: Uint8Array | undefined
  /** Targets of this process, besides those of the configuration and those who join the identity. */
  readonly targets?: readonly Target[]
  /** @default the system's */
  readonly clock?: Clock
  readonly onEvent?: (event: AgentEvent) => void
  /** How long to wait at start for targets that are not there yet, milliseconds. @default 30 s */
  readonly startTimeout?: Duration
}

export interface AgentHandle extends AsyncDisposable {
  /** The identity of this node, always a complete checked set. Who joins it is moved with each apply, as a target is. */
  readonly identity: Identity
  readonly status: () => AgentStatus
  /** Rejects when the agent can not go on; resolves after `stop`. */
  readonly done: Promise<void>
  stop(): Promise<void>
}

/**
 * Starts an agent on its identity directory. Throws ERR_IDENTITY_* when the directory is not one, is damaged, has ended
 * or has another agent, ERR_BUNDLE_* when the given bundle is not acceptable, ERR_JOIN_* when it should join and can not,
 * ERR_TARGET_UNREACHABLE when a target is not there.
 * NATS may be down: that is waited for.
 */
export async function startAgent(options: AgentOptions): Promise<AgentHandle> {
  const { config, logger } = options
  const clock = options.clock ?? systemClock
  const names = domainNames(config.domain)
  const directory = await openDirectory(config.identity)
  try {
    if (options.bundle !== undefined) await catchUpWith(directory, options.bundle, options)
    if (options.join !== undefined) await joinIfNeeded(directory, options.join, options)
    const acceptance = await Acceptance.open(directory, clock)
    const current = await directory.current()
    if (current === null)
      throw new RotorError('ERR_IDENTITY_MISSING', `${config.identity}: no generation; enrol this node first`)
    const identity = new HeldIdentity(await directory.load(current.name), logger)
    assertNotEnded(identity.current(), config.identity, clock.now())
    const targets = [
      ...config.targets.map((target) => makeTarget(target, identity.current())),
      ...(options.targets ?? []),
    ]
    await checkTargets(targets, options.startTimeout ?? 30_000, clock)

    const stop = new AbortController()
    const { manifest } = current
    const reporter = new Reporter(
      names.statusSubject(config.agent),
      {
        v: 1,
        agent: config.agent,
        role: config.role,
        version: manifest.version,
        digest: manifest.digest,
        // After a crash the current generation may never have been proven: then it counts for nothing yet.
        state: acceptance.proven?.generation === current.name ? 'applied' : 'applying',
        step: 'idle',
        leaf: { fingerprint: manifest.leaf, issuerEpoch: manifest.epoch, notAfter: manifest.notAfter },
        targets: [],
        usage: [],
        configs: [],
        clockOffsetMs: null,
        clockBoundMs: 0,
        lastError: null,
        started: formatInstant(clock.now()),
        at: formatInstant(clock.now()),
        software: SOFTWARE,
      },
      clock,
      logger,
    )
    const dial = (servers: readonly string[], more: Partial<ConnectWithOptions> = {}) =>
      connectWith({
        servers,
        identity,
        handshakeFirst: config.handshakeFirst,
        name: `rotor-agent-${config.agent}`,
        inboxPrefix: names.inbox(config.agent),
        ...more,
      }).catch((cause) => {
        throw withAdvice(cause, config.agent, acceptance.highest.version)
      })
    // the first of a server's agent is its own server, which it then need not ask who it is
    const link = new Link((avoid, signal) => {
      const noRandomize = config.role === 'server' || avoid !== undefined
      return dial(withLast(config.servers, avoid), { noRandomize, signal })
    }, logger)
    const onEvent = options.onEvent ?? (() => {})
    const applier = new Applier({
      config,
      names,
      directory,
      acceptance,
      identity,
      targets,
      link,
      dialServer: (server, signal) => dial([server], { signal }),
      reporter,
      clock,
      logger,
      onEvent,
    })
    const newest = await acceptance.newest().catch((cause) => {
      // Too old to be accepted again: the node slept. It waits for a newer one.
      logger.warn({ err: RotorError.from(cause).message }, 'the bundle on disk is not valid any more')
      return null
    })
    const schedule = newest === null ? makeSchedule() : scheduleOf(newest.payload)
    const patience = Math.max(500, Math.min(30_000, schedule.lead / 2))
    const work = new Work(applier, reporter, link, patience, clock, logger, stop.signal)
    const inbox = new Inbox({ acceptance, applier, work, reporter, clock, logger, onEvent })
    await link.attach(
      consumeBundles({
        names,
        agent: config.agent,
        inactiveThreshold: 2 * schedule.validity + 60_000,
        logger,
        handle: (message) => inbox.take(message),
      }),
    )
    const refresh = Math.max(1_000, Math.min(60_000, schedule.lead))

    const done = runTasks(stop.signal, [
      (signal) => link.run(signal),
      (signal) => reporter.run(link, refresh, signal),
      (signal) =>
        watchClock(
          {
            connection: (s) => link.ready(s),
            names,
            every: refresh,
            lead: schedule.lead,
            clock,
            logger,
            told: ({ offsetMs, boundMs }) =>
              reporter.update({ clockOffsetMs: offsetMs, clockBoundMs: boundMs }),
          },
          signal,
        ),
      (signal) =>
        watchServerConfigs(
          { targets: config.targets, connection: (s) => link.ready(s), reporter, every: refresh, logger },
          signal,
        ),
      (signal) => watchUsage(identity, reporter, refresh, clock, signal),
      (signal) => renewWhenDue(identity, acceptance, work, clock, signal),
      (signal) => watchEnd(identity, config.identity, clock, logger, signal),
    ])
    done.catch(() => {})
    if (newest !== null && !(await applier.isApplied(newest))) work.offer({ bundle: newest, message: null })

    const handleOfAgent: AgentHandle = {
      identity,
      status: () => reporter.status,
      done,
      stop: async () => {
        stop.abort(new RotorError('ERR_ABORTED', 'the agent was stopped'))
        await work.idle()
        await done.catch(() => {})
        await directory.close()
      },
      [Symbol.asyncDispose]: () => handleOfAgent.stop(),
    }
    return handleOfAgent
  } catch (cause) {
    await directory.close()
    throw cause
  }
}

/** Of how many leaves we know since when we have them: the present one, and those that may be put back. */
const LEAVES = 8

/**
 * A leaf whose authority still signs is replaced after two thirds of its life, by applying the bundle again. A new
 * leaf may be due sooner than the one before it, so every change is a reason to look.
 */
async function renewWhenDue(
  identity: Identity,
  acceptance: Acceptance,
  work: Work,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const changed = new Bell()
  const taken = new Map<string, Tick | null>([[identity.current().leaf.sha256, null]])
  const forget = identity.onChange(({ leaf }) => {
    // one that was put back is as old as it is
    if (!taken.has(leaf.sha256)) taken.set(leaf.sha256, tickOf(clock))
    for (const [oldest] of [...taken].slice(0, -LEAVES)) taken.delete(oldest)
    changed.ring()
  })
  while (!signal.aborted) {
    const { leaf } = identity.current()
    const wait = untilRenewal(leaf, taken.get(leaf.sha256) ?? null, tickOf(clock))
    if (wait <= 0) {
      const bundle = await acceptance.newest().catch(() => null)
      if (bundle !== null) work.offer({ bundle, message: null })
    }
    await changed.wait(Math.max(wait, 1_000), signal).catch(() => {})
  }
  forget()
}

/** A node without an identity has nothing to judge a bundle by: it has to join. */
async function catchUpWith(
  directory: IdentityDirectory,
  bundle: Uint8Array,
  { config, logger, join, clock = systemClock }: AgentOptions,
): Promise<void> {
  if (join !== undefined && (await directory.readState())?.highest == null) return
  const problem = await catchUp(directory, bundle, { config, clock, logger })
  if (problem !== null && join === undefined) throw leftTrust(directory.path, problem)
}

async function joinIfNeeded(
  directory: IdentityDirectory,
  text: string,
  { config, logger, clock = systemClock }: AgentOptions,
): Promise<void> {
  const token = tokenFor(config, text)
  if (await isEnrolled(directory, clock.now())) {
    logger.info({}, 'this node has an identity already, the join token was not used')
    await forgetJoinKey(directory)
  } else await joinWith(directory, token, config, { logger, clock })
}

async function checkTargets(targets: readonly Target[], timeout: Duration, clock: Clock): Promise<void> {
  const deadline = clock.now() + timeout
  for (const target of targets) {
    for (;;) {
      try {
        await target.check(AbortSignal.timeout(timeout))
        break
      } catch (cause) {
        if (clock.now() >= deadline) throw cause
        await sleep(200)
      }
    }
  }
}
