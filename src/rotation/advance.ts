/**
 * What happens next in a domain: the one decision of the product, made of plain values (see SPEC.md).
 *
 * No I/O and no clock. The same inputs give the same decision, so an issuer that died after the commit and before an
 * effect decides the effect again.
 */
import { RotorError } from '../errors.ts'
import { comingEpoch, type Epoch, epochEnd, epochStart } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import {
  ACCEPTS_NEXT,
  agentStragglers,
  FORGOT_DROPPED,
  HOLDS_NEW_LEAF,
  KNOWS_ROOT,
  SERVES_ACTIVE,
  serverStragglers,
  TRUSTS_NEXT,
} from './checks.ts'
import { passOverAt, waive } from './hold.ts'
import {
  activate,
  converge,
  introduce,
  leftovers,
  prepare,
  publishBundle,
  refresh,
  restart,
  retire,
  withdraw,
} from './moves.ts'
import { MAX_AUTHORITIES } from './payloads.ts'
import { retirement } from './retire.ts'
import { comingRoot, hasSpareRoot, holdsNewestRoot, signingRoot, wantedRoot } from './roots.ts'
import {
  endOf,
  hasEnded,
  heldAuthority,
  type In,
  keyOf,
  type Situation,
  signerIsLost,
  situation,
  soonest,
} from './situation.ts'
import type {
  Decision,
  Effect,
  HeldAuthority,
  Observations,
  RotationPolicy,
  RotationState,
  Straggler,
  WaitReason,
} from './state.ts'

export { bootstrap } from './payloads.ts'

/**
 * Assumption: `seen` was gathered after `state` was read, and in it `published` before the agents, so that an agent
 * that joined with an older bundle is among them.
 *
 * Throws ERR_STATE_CONFLICT when the stream is ahead of the state (another issuer leads: read again),
 * ERR_RECORD_INVALID when the state contradicts its payload, ERR_AUTHORITY_MISSING when the key store holds an
 * authority that can not serve its epoch.
 */
export function advance(
  state: RotationState,
  seen: Observations,
  policy: RotationPolicy,
  now: Instant,
): Decision {
  const s = situation(state, seen, policy, now)
  if (seen.published > state.version) {
    throw new RotorError(
      'ERR_STATE_CONFLICT',
      `bundle stream of ${state.domain}: expected version ${state.version} to be the newest, found ${seen.published}`,
      { details: { domain: state.domain, expected: state.version, found: seen.published } },
    )
  }
  // publish first: agents follow the stream, so nothing they have not been sent may be built upon
  if (seen.published < state.version) {
    return {
      kind: 'wait',
      reason: 'not-published',
      waitingFor: [],
      until: null,
      effects: [publishBundle(state)],
    }
  }
  switch (state.phase) {
    case 'steady':
      return steady({ ...s, state })
    case 'distributing':
      return distributing({ ...s, state })
    case 'converging':
      return converging({ ...s, state })
    case 'withdrawing':
      return withdrawing({ ...s, state })
    case 'introducing':
      return introducing({ ...s, state })
  }
}

function steady(s: In<'steady'>): Decision {
  if (hasEnded(s, s.state.active)) return startAgain(s)
  const why = prepareReason(s)
  const { ready, heldBackBy } = retirement(s)
  if (why === null && s.state.order !== null) return changeRoot(s, s.state.order)
  if (why === null) {
    const reason = heldBackBy.length > 0 ? 'authority-still-needed' : 'not-due'
    return maintain(s) ?? wait(s, reason, heldBackBy, [prepareAt(s)])
  }
  if (s.bundle.authorities.length - ready.length >= MAX_AUTHORITIES) {
    return wait(s, 'authority-still-needed', heldBackBy, [])
  }
  const next = usable(s, nextEpoch(s))
  if (next !== null) return prepare(s, next, why)
  // creating may fail for long (the root is offline): what can not wait goes first, the rest leaves with `prepare`
  const urgent = isStale(s) || ready.some((epoch) => hasEnded(s, epoch))
  return (urgent ? maintain(s) : null) ?? waitForAuthority(s)
}

/** A new root was ordered, and no rotation is due: those go first, because the root may take long to make. */
function changeRoot(s: In<'steady'>, order: Order): Decision {
  const root = comingRoot(s)
  if (root !== null && root.notBefore <= s.now) return introduce(s, order, root)
  const effects: Effect[] = root === null ? [{ kind: 'create-root', ...wantedRoot(s) }] : []
  const moments = [prepareAt(s), root?.notBefore ?? s.now]
  return maintain(s) ?? wait(s, 'root-not-created', [], moments, effects)
}

/** No key is made under the new root before everybody has it. When its own key is lost there is nothing to learn. */
function introducing(s: In<'introducing'>): Decision {
  const agents = holdsNewestRoot(s) ? agentStragglers(s, KNOWS_ROOT) : []
  const waiver = waiverFor(s, agents)
  if (waiver !== 'hold') return converge(s, waiver)
  return maintain(s) ?? wait(s, 'agents-do-not-know-root', agents, [passOverAt(s)])
}

function distributing(s: In<'distributing'>): Decision {
  const { active, next } = s.state
  const unusable = whyUnusable(s, next)
  if (unusable !== null) return hasEnded(s, active) ? startAgain(s) : withdraw(s, unusable)

  const agents = agentStragglers(s, TRUSTS_NEXT)
  const servers = serverStragglers(s, ACCEPTS_NEXT, next)
  const waiver = waiverFor(s, [...agents, ...servers])
  if (waiver !== 'hold' && s.now >= activateAt(s)) return activate(s, waiver)

  const kept = maintain(s)
  if (kept !== null) return kept
  const moments = servers.length + agents.length > 0 ? [passOverAt(s), activateAt(s)] : [activateAt(s)]
  if (agents.length > 0) {
    return wait(s, 'agents-do-not-trust', [...agents, ...servers], moments, probe(s, next, agents, servers))
  }
  return servers.length > 0
    ? wait(s, 'servers-not-proven', servers, moments, probe(s, next, agents, servers))
    : wait(s, 'epoch-not-started', [], moments)
}

function converging(s: In<'converging'>): Decision {
  const { active } = s.state
  const agents = agentStragglers(s, HOLDS_NEW_LEAF)
  const servers = serverStragglers(s, SERVES_ACTIVE, active)
  const waiver = waiverFor(s, [...agents, ...servers])
  if (waiver !== 'hold') return converge(s, waiver)

  const kept = maintain(s)
  if (kept !== null) return kept
  const reason = agents.length > 0 ? 'agents-not-reissued' : 'servers-not-reissued'
  return wait(s, reason, [...agents, ...servers], [passOverAt(s)], probe(s, active, agents, servers))
}

function withdrawing(s: In<'withdrawing'>): Decision {
  const agents = agentStragglers(s, FORGOT_DROPPED)
  const waiver = waiverFor(s, agents)
  if (waiver !== 'hold') return converge(s, waiver)
  return maintain(s) ?? wait(s, 'agents-still-trust', agents, [passOverAt(s)])
}

// ---- when

/** Why the next authority is due, or null. Only asked in steady: one rotation at a time (I5). */
function prepareReason(s: In<'steady'>): string | null {
  const { order, active, newest } = s.state
  const next = nextEpoch(s)
  if (order?.kind === 'rotate') return `prepare epoch ${next}: ordered by ${order.by}: ${order.reason}`
  if (signerIsLost(s)) return `prepare epoch ${next}: the key of epoch ${active}, which signs, is lost`
  if (comingEpoch(s.schedule, s.now) <= newest) return null
  return `prepare epoch ${next}, which starts at ${formatInstant(epochStart(s.schedule, next))}`
}

/**
 * Never an epoch that was used before, and never one that is over; epochs an issuer slept through are skipped, and one
 * for which the store has an authority of another root than the one that signs now.
 */
function nextEpoch(s: Situation): Epoch {
  let epoch = Math.max(comingEpoch(s.schedule, s.now), s.state.newest + 1)
  while (isOfOtherRoot(s, epoch)) epoch += 1
  return epoch
}

function isOfOtherRoot(s: Situation, epoch: Epoch): boolean {
  const held = heldAuthority(s, epoch)
  return held !== undefined && s.seen.signedBy[held.sha256] !== signingRoot(s)
}

const prepareAt = (s: Situation): Instant => epochStart(s.schedule, s.state.newest + 1) - s.schedule.lead

/** At the start of its epoch; at once when it was ordered or nothing else can sign; before the old signer ends. */
function activateAt(s: In<'distributing'>): Instant {
  if (s.state.order?.kind === 'rotate' || signerIsLost(s)) return s.state.since
  return Math.min(epochStart(s.schedule, s.state.next), endOf(s, s.state.active) - s.schedule.lead)
}

// ---- authorities

/** Why an authority of the bundle can not become the signer any more, or null. */
function whyUnusable(s: Situation, epoch: Epoch): string | null {
  if (keyOf(s, epoch) === undefined) return 'its key is lost'
  const end = endOf(s, epoch)
  return s.now >= end - s.schedule.lead ? `it was not used until ${formatInstant(end)}, when it ends` : null
}

/** The held authority of a new epoch; null while there is none, or while its certificate is not valid yet. */
function usable(s: Situation, epoch: Epoch): HeldAuthority | null {
  const authority = heldAuthority(s, epoch)
  if (authority === undefined) return null
  if (authority.notAfter - s.schedule.lead <= s.now) {
    throw new RotorError(
      'ERR_AUTHORITY_MISSING',
      `key store: expected the authority of epoch ${epoch} to last until ` +
        `${formatInstant(epochEnd(s.schedule, epoch))}, found one that ends at ${formatInstant(authority.notAfter)}`,
      { details: { epoch } },
    )
  }
  return authority.notBefore <= s.now ? authority : null
}

/** Back-dated by `lead`, the clock skew we allow (design 3). */
function waitForAuthority(s: Situation): Decision {
  const epoch = nextEpoch(s)
  const held = heldAuthority(s, epoch)
  if (held !== undefined) return wait(s, 'authority-not-created', [], [held.notBefore])
  const notBefore = Math.min(s.now, epochStart(s.schedule, epoch)) - s.schedule.lead
  const notAfter = epochEnd(s.schedule, epoch)
  const root = signingRoot(s)
  return wait(
    s,
    'authority-not-created',
    [],
    [],
    [{ kind: 'create-authority', epoch, notBefore, notAfter, root }],
  )
}

/** The signer has ended and nothing can follow it in order: see `restart`. */
function startAgain(s: In<'steady'> | In<'distributing'>): Decision {
  const fresh = usable(s, nextEpoch(s))
  return fresh === null ? waitForAuthority(s) : restart(s, fresh)
}

// ---- upkeep, in any phase

/** Every bundle ends; a long hold must not end the newest one (an agent that starts then would refuse it). */
const isStale = (s: Situation): boolean => s.now > staleAt(s)

const staleAt = (s: Situation): Instant => Date.parse(s.bundle.expiresAt) - s.schedule.epochDuration

/** A bundle that is due although the phase can not move; none with a signer that has ended, agents would refuse it. */
function maintain(s: Situation): Decision | null {
  if (hasEnded(s, s.state.active)) return null
  if (retirement(s).ready.length > 0 || hasSpareRoot(s)) return retire(s)
  return isStale(s) ? refresh(s) : null
}

// ---- answers

/** null: nobody is missing. A waiver: some are, and may be passed over. 'hold': some are, and may not. */
function waiverFor(s: Situation, stragglers: readonly Straggler[]) {
  return stragglers.length === 0 ? null : (waive(s, stragglers) ?? 'hold')
}

/** Dial when some listener is unproven whose own agent is done: sooner, a refusal is certain. */
function probe(
  s: Situation,
  epoch: Epoch,
  agents: readonly Straggler[],
  servers: readonly Straggler[],
): Effect[] {
  const late = new Set(agents.map((agent) => agent.name))
  const unproven = new Set(servers.map((server) => server.name))
  const worth = s.seen.servers.some(
    ({ name, agent }) => unproven.has(name) && agent !== null && !late.has(agent),
  )
  return worth ? [{ kind: 'probe-servers', epoch }] : []
}

function wait(
  s: Situation,
  reason: WaitReason,
  waitingFor: readonly Straggler[],
  moments: readonly Instant[],
  effects: readonly Effect[] = [],
): Decision {
  return {
    kind: 'wait',
    reason,
    waitingFor,
    until: soonest(s.now, [...moments, ...retirement(s).moments, staleAt(s) + 1]),
    effects: [...effects, ...leftovers(s.state, s.bundle, s.seen)],
  }
}
