/**
 * Requests of an operator about joining: make, list and revoke tokens, remove an agent. They come as requests over NATS
 * and not as records that the operator writes: whoever may make a token then needs one subject, and no access to the state
 * of the domain; and the policy is put to it before the token exists.
 */
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { IssuerConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { natsFailure } from '../../src/nats/failure.ts'
import { type Clock, type Duration, formatInstant, type Instant } from '../../src/time.ts'
import { KEY_ALGORITHMS } from '../../src/trust/keys.ts'
import { type EnrolRequest, enrolRequest, type TokenRecord } from '../../src/wire/enrolment.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord, encodeRecord } from '../../src/wire/record.ts'
import type { Registry } from '../registry.ts'
import type { Statuses } from '../statuses.ts'
import { type StoredToken, stateOf, type Tokens } from './tokens.ts'

/** A token that waits longer lies around somewhere. */
export const MAX_TTL: Duration = 7 * 24 * 3_600_000
/** Open tokens at a time. */
const MAX_TOKENS = 10_000

export interface EnrolmentOptions {
  readonly config: IssuerConfig
  readonly names: DomainNames
  readonly registry: Registry
  readonly tokens: Tokens
  readonly statuses: Statuses
  /** What tokens pin of the join endpoint; null without one. */
  readonly endpoint: string | null
  /** Fingerprints of the keys that sign bundles. */
  readonly signers: () => readonly string[]
  readonly clock: Clock
  readonly logger: Logger
  /** Called when an agent was removed. */
  readonly changed: () => void
}

type Of<Op extends EnrolRequest['op']> = Extract<EnrolRequest, { op: Op }>

/** Answers one request message; never throws. */
export async function handleEnrolment(
  nc: NatsConnection,
  message: Msg,
  options: EnrolmentOptions,
): Promise<void> {
  const { clock, logger } = options
  const serverTime = () => formatInstant(clock.now())
  try {
    const request = decodeRecord(enrolRequest, message.data, message.subject)
    const answer = await answerTo(nc, request, options, clock.now())
    message.respond(encodeRecord({ ok: true, serverTime: serverTime(), ...answer }))
  } catch (cause) {
    const error = natsFailure(cause, 'join tokens')
    logger.warn({ code: error.code, err: error.message }, 'a request about joining was refused')
    message.respond(
      encodeRecord({ ok: false, code: error.code, message: error.message, serverTime: serverTime() }),
    )
  }
}

function answerTo(nc: NatsConnection, request: EnrolRequest, options: EnrolmentOptions, now: Instant) {
  switch (request.op) {
    case 'create-token':
      return createToken(nc, request, options, now)
    case 'list-tokens':
      return listTokens(nc, options, now)
    case 'revoke-token':
      return revokeToken(nc, request, options, now)
    case 'remove-agent':
      return removeAgent(nc, request, options, now)
  }
}

async function createToken(
  nc: NatsConnection,
  request: Of<'create-token'>,
  options: EnrolmentOptions,
  now: Instant,
) {
  const { config, registry, tokens, logger } = options
  const { id, agent, secretSha256, ttl, by } = request
  if (config.join === undefined || options.endpoint === null) {
    throw refused('this issuer has no join endpoint: set join.listen in issuer.json and start it again')
  }
  const { role, keys } = policyFor(registry, agent)
  if (agent === config.name) throw refused(`${agent} is the issuer itself`)
  if (ttl > MAX_TTL) throw refused('a token may be open for seven days at most')
  const open = (await tokens.list(nc, now)).filter(({ record }) => stateOf(record, now) === 'open')
  if (open.length >= MAX_TOKENS) throw refused(`${open.length} tokens are open; revoke some`)
  const expiresAt = now + ttl
  await tokens.create(nc, {
    v: 1,
    id,
    agent,
    secretSha256,
    createdAt: now,
    expiresAt,
    by,
    redeemed: null,
    revoked: null,
  })
  logger.info({ agent, id, by, expiresAt: formatInstant(expiresAt) }, 'a join token was made')
  return {
    agent,
    role,
    expiresAt: formatInstant(expiresAt),
    addresses: config.join.addresses ?? [config.join.listen],
    endpoint: options.endpoint,
    signers: options.signers(),
    key: keys?.[0] ?? KEY_ALGORITHMS[0],
  }
}

async function listTokens(nc: NatsConnection, { tokens }: EnrolmentOptions, now: Instant) {
  const found = await tokens.list(nc, now)
  return {
    tokens: found.map(({ record }) => ({
      id: record.id,
      agent: record.agent,
      state: stateOf(record, now),
      createdAt: formatInstant(record.createdAt),
      expiresAt: formatInstant(record.expiresAt),
      by: record.by,
    })),
  }
}

async function revokeToken(
  nc: NatsConnection,
  { id, by, reason }: Of<'revoke-token'>,
  { tokens, logger }: EnrolmentOptions,
  now: Instant,
) {
  const agent = await untilWritten(async () => {
    const stored = await tokens.read(nc, id)
    if (stored === null) throw refused(`there is no token ${id}; see "rotor token list"`)
    await revoke(nc, tokens, stored, { at: now, by, reason })
    return stored.record.agent
  })
  logger.info({ agent, id, by, reason }, 'a join token was revoked')
  return { id, agent }
}

async function removeAgent(
  nc: NatsConnection,
  { agent, by, reason }: Of<'remove-agent'>,
  options: EnrolmentOptions,
  now: Instant,
) {
  const { config, names, registry, tokens, statuses, logger } = options
  if (agent === config.name) throw refused(`${agent} is the issuer itself`)
  const leafEnds = statuses.get(agent)?.leaf.notAfter ?? null
  // First the record: from here on nothing is signed for it, and its tokens do not count.
  await untilWritten(async () => {
    const { record, revision } = await registry.read(nc, agent)
    if (record === null && !registry.members().some(({ name }) => name === agent)) {
      throw refused(`there is no agent ${agent}; see "rotor status"`)
    }
    // also when it was removed before: a token that was made since goes with it
    await registry.write(nc, { v: 1, agent, state: 'removed', at: now, by, reason }, revision)
  })
  let revoked = 0
  for (const { record } of await tokens.list(nc, now)) {
    if (record.agent !== agent || stateOf(record, now) !== 'open') continue
    await untilWritten(async () => {
      const stored = await tokens.read(nc, record.id)
      if (stored !== null) await revoke(nc, tokens, stored, { at: now, by, reason: 'its agent was removed' })
    })
    revoked += 1
  }
  await forget(nc, names, agent)
  statuses.forget(agent)
  logger.info({ agent, by, reason, revoked }, 'an agent was removed')
  options.changed()
  return { agent, leafEnds, revoked }
}

/** What the agent left on the servers. Both are made again when it comes back. */
async function forget(nc: NatsConnection, names: DomainNames, agent: string): Promise<void> {
  const status = await new Kvm(jetstream(nc, { timeout: 5000 })).open(names.statusBucket)
  await status.purge(agent)
  const jsm = await jetstreamManager(nc, { timeout: 5000, checkAPI: false })
  // no such consumer is as good
  await jsm.consumers.delete(names.bundleStream, names.consumer(agent)).catch(() => {})
}

async function revoke(
  nc: NatsConnection,
  tokens: Tokens,
  { record, revision }: StoredToken,
  revoked: NonNullable<TokenRecord['revoked']>,
): Promise<void> {
  if (record.revoked === null) await tokens.update(nc, { ...record, revoked }, revision)
}

/** Again when somebody else wrote in between. */
async function untilWritten<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work()
    } catch (cause) {
      if (RotorError.from(cause).code !== 'ERR_STATE_CONFLICT') throw cause
    }
  }
}

function policyFor(registry: Registry, agent: string) {
  try {
    return registry.policyOf(agent)
  } catch (cause) {
    throw refused(`no entry of "agents" in issuer.json fits ${JSON.stringify(agent)}`, cause)
  }
}

const refused = (message: string, cause?: unknown): RotorError =>
  new RotorError('ERR_ORDER_REFUSED', message, { cause })
