/**
 * A node asks to join: is its token good, does the policy allow what it asks, and then, in this order: the token is
 * redeemed, the agent is registered, the leaf is signed. A crash between any two is answered by asking again with the
 * same key.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { AgentEntry, IssuerConfig } from '../../src/domain/config.ts'
import { secretSha256 } from '../../src/enrolment/token.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import { natsFailure } from '../../src/nats/failure.ts'
import { type Clock, formatInstant, type Instant } from '../../src/time.ts'
import { parseCsr, type SigningRequest } from '../../src/trust/csr.ts'
import { KEY_ALGORITHMS } from '../../src/trust/keys.ts'
import { bundlePayload, scheduleOf } from '../../src/wire/bundle.ts'
import type { JoinAnswer, JoinRequest } from '../../src/wire/enrolment.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { Authority } from '../authority/authority.ts'
import type { Registry, StoredMember } from '../registry.ts'
import { leafFor } from '../signing/policy.ts'
import type { NewestBundle } from './newest.ts'
import { problemOf, problemOfKey, type StoredToken, type Tokens } from './tokens.ts'

export interface RedeemOptions {
  readonly config: IssuerConfig
  readonly names: DomainNames
  readonly authority: Authority
  readonly newest: NewestBundle
  readonly registry: Registry
  readonly tokens: Tokens
  readonly clock: Clock
  readonly logger: Logger
}

/** Races we lose before we say that we are busy. */
const MAX_TRIES = 5

/** The one answer to a token that does not count: who guesses learns nothing. The reason is for our log. */
const refused = (id: string, reason: string): RotorError =>
  new RotorError('ERR_JOIN_REFUSED', 'the join token is not accepted', { details: { id, reason } })

/**
 * The answer to a request; its token is redeemed then. Throws ERR_JOIN_REFUSED without a reason when the token does not
 * count; the owner of a good one is told what is wrong (ERR_SIGN_MALFORMED, ERR_SIGN_REFUSED) and keeps it; and any
 * error of NATS or the authority, after which the same request may be sent again.
 */
export async function redeem(
  nc: NatsConnection,
  request: JoinRequest,
  options: RedeemOptions,
): Promise<Extract<JoinAnswer, { ok: true }>> {
  const { names, registry, clock, logger } = options
  for (let tries = 1; ; tries += 1) {
    try {
      const now = clock.now()
      const stored = await tokenOf(nc, request, options, now)
      const { record } = stored
      const csr = await parseCsr(request.csr)
      assertCounts(record.id, problemOfKey(record, csr.spkiSha256))
      const member = await registry.read(nc, record.agent)
      assertCounts(record.id, problemOfMember(member, record.createdAt))
      const entry = registry.policyOf(record.agent)
      const { state, envelope } = await options.newest.read(nc)
      if (state.tainted[state.active] !== undefined)
        throw new RotorError(
          'ERR_SIGN_BUSY',
          'the authority that signs is tainted; the next one is on its way',
        )
      const payload = decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
      // before the token is redeemed: what the policy refuses does not cost it
      const leaf = leafFor(csr, entry, names.spiffeId(entry.name), scheduleOf(payload), now)
      await take(nc, stored, member, csr, options, now)
      const chain = await options.authority.sign(payload.epoch, leaf)
      logger.info(
        { agent: entry.name, id: record.id, epoch: payload.epoch, spki: csr.spkiSha256 },
        'a node joined',
      )
      return {
        ok: true,
        serverTime: formatInstant(clock.now()),
        chain,
        epoch: payload.epoch,
        bundle: Buffer.from(envelope).toString('utf8'),
        hints: hintsOf(options.config, entry),
      }
    } catch (cause) {
      const error = natsFailure(cause, 'join tokens')
      if (error.code !== 'ERR_STATE_CONFLICT' || tries >= MAX_TRIES) throw error
    }
  }
}

async function tokenOf(
  nc: NatsConnection,
  { id, secret }: JoinRequest,
  { tokens }: RedeemOptions,
  now: Instant,
): Promise<StoredToken> {
  const stored = await tokens.read(nc, id)
  const problem = problemOf(stored?.record ?? null, secretSha256(secret), now)
  if (stored === null || problem !== null) throw refused(id, problem ?? '')
  return stored
}

/** A token that was made before its agent was removed went with it. One that is made later lets the agent in again. */
const problemOfMember = ({ record }: StoredMember, createdAt: Instant): string | null =>
  record?.state === 'removed' && record.at >= createdAt ? 'its agent was removed' : null

function assertCounts(id: string, problem: string | null): void {
  if (problem !== null) throw refused(id, problem)
}

/** Redeems and registers; each is a compare-and-set on what was judged. Throws ERR_STATE_CONFLICT to be judged again. */
async function take(
  nc: NatsConnection,
  { record, revision }: StoredToken,
  member: StoredMember,
  csr: SigningRequest,
  { tokens, registry }: RedeemOptions,
  now: Instant,
): Promise<void> {
  if (record.redeemed === null) {
    await tokens.update(nc, { ...record, redeemed: { at: now, spkiSha256: csr.spkiSha256 } }, revision)
  }
  if (member.record?.state === 'joined') return
  const { agent, by, id } = record
  await registry.write(
    nc,
    { v: 1, agent, state: 'joined', at: now, by, reason: `joined with token ${id}` },
    member.revision,
  )
}

function hintsOf({ servers, handshakeFirst }: IssuerConfig, { role, names, keys }: AgentEntry) {
  return { role, servers, handshakeFirst, names, key: keys?.[0] ?? KEY_ALGORITHMS[0] }
}
