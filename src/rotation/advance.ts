/**
 * What happens next in a domain: the one decision of the product, made of plain values (see SPEC.md).
 *
 * No I/O and no clock. The same inputs give the same decision, so an issuer that died after the commit and before an
 * effect decides the effect again.
 */
import { RotorError } from '../errors.ts'
import { type Epoch, epochEnd, epochStart } from '../schedule.ts'
import type { Instant } from '../time.ts'
import type { Order } from '../wire/requests.ts'
import { overBudget } from './budget.ts'
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
import { isPaused, passOverAt, pausedUntil, waive } from './hold.ts'
import {
  activate,
  changeSigners,
  converge,
  distrust,
  introduce,
  leftovers,
  prepare,
  publishBundle,
  refresh,
  restart,
  retire,
  rollback,
  taint,
  withdraw,
} from './moves.ts'
import { activateAt, nextEpoch, ordered, prepareAt, prepareReason, usable, whyUnusable } from './next.ts'
import { MAX_AUTHORITIES } from './payloads.ts'
import { retirement } from './retire.ts'
import { automaticTarget, rollbackTarget } from './rollback.ts'
import { comingRoot, hasSpareRoot, holdsNewestRoot, signingRoot, wantedRoot } from './roots.ts'
import { forcedAt, signerEffects, signerStep, signerToMake, signerWait } from './signers.ts'
import { endOf, hasEnded, heldAuthority, type In, type Situation, situation, soonest } from './situation.ts'
import type {
  Decision,
  Effect,
  Observations,
  RotationPolicy,
  RotationState,
  Straggler,
  WaitReason,
} from './state.ts'
import { type Distrust, openDistrust, unmarked } from './taint.ts'

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
  const { active, order } = s.state
  if (hasEnded(s, active)) return startAgain(s)
  const target = order?.kind === 'rollback' ? rollbackTarget(s) : null
  if (order !== null && target !== null) return rollback(s, target, ordered(order))
  const why = prepareReason(s)
  const { ready, heldBackBy } = retirement(s)
  if (why !== null && isPaused(s)) return maintain(s) ?? wait(s, 'paused', heldBackBy, [pausedUntil(s)])
  if (why === null && order?.kind === 'root-rotate') return changeRoot(s, order)
  const open = why === null ? openDistrust(s) : null
  if (open !== null) return proveDistrust(s, open)
  if (why === null) {
    const signer = signerWait(s)
    const reason = heldBackBy.length > 0 ? 'authority-still-needed' : (signer?.reason ?? 'not-due')
    return maintain(s) ?? wait(s, reason, [...heldBackBy, ...(signer?.late ?? [])], [prepareAt(s)])
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

/** A tainted authority has left trust: it is looked at until nobody takes a leaf of it. */
function proveDistrust(s: In<'steady'>, open: Distrust): Decision {
  const { epoch, stragglers } = open
  if (stragglers.length === 0) return distrust(s, open)
  const servers = stragglers.filter(({ kind }) => kind === 'server').map(({ name }) => name)
  const late = stragglers.filter(({ kind }) => kind === 'agent').map(({ name }) => name)
  const dialled = worthDialling(s, new Set(late), new Set(servers))
  const effects: Effect[] = dialled.length > 0 ? [{ kind: 'prove-distrust', epoch, servers: dialled }] : []
  if (stragglers.every(({ kind }) => kind === 'connection')) effects.push({ kind: 'kick-connections', epoch })
  const moments = [prepareAt(s), endOf(s, epoch)]
  return maintain(s) ?? wait(s, 'tainted-still-trusted', stragglers, moments, effects)
}

/** A new root was ordered, and no rotation is due: those go first, because the root may take long to make. */
function changeRoot(s: In<'steady'>, order: Order): Decision {
  if (isPaused(s)) return maintain(s) ?? wait(s, 'paused', [], [pausedUntil(s)])
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
  const { order } = s.state
  const back = order?.kind === 'withdraw' ? ordered(order) : overBudget(s)
  if (back !== null && !hasEnded(s, active)) return withdraw(s, back)

  const agents = agentStragglers(s, TRUSTS_NEXT)
  const servers = serverStragglers(s, ACCEPTS_NEXT, next)
  const waiver = waiverFor(s, [...agents, ...servers])
  const paused = isPaused(s)
  if (waiver !== 'hold' && s.now >= activateAt(s) && !paused) return activate(s, waiver)

  const kept = maintain(s)
  if (kept !== null) return kept
  if (waiver !== 'hold' && paused) return wait(s, 'paused', [], [pausedUntil(s)])
  const moments = servers.length + agents.length > 0 ? [passOverAt(s), activateAt(s)] : [activateAt(s)]
  if (agents.length > 0) {
    return wait(s, 'agents-do-not-trust', [...agents, ...servers], moments, probe(s, next, agents, servers))
  }
  return servers.length > 0
    ? wait(s, 'servers-not-proven', servers, moments, probe(s, next, agents, servers))
    : wait(s, 'epoch-not-started', [], moments)
}

function converging(s: In<'converging'>): Decision {
  const { active, order } = s.state
  const wanted = order?.kind === 'rollback'
  const why = wanted ? ordered(order) : overBudget(s)
  const target = wanted ? rollbackTarget(s) : automaticTarget(s)
  if (why !== null && target !== null) return rollback(s, target, why)

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

// ---- authorities

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
  if (unmarked(s).length > 0) return taint(s)
  if (retirement(s).ready.length > 0 || hasSpareRoot(s)) return retire(s)
  const signers = signerStep(s)
  if (signers !== null) return changeSigners(s, signers)
  return isStale(s) ? refresh(s) : null
}

// ---- answers

/** null: nobody is missing. A waiver: some are, and may be passed over. 'hold': some are, and may not. */
function waiverFor(s: Situation, stragglers: readonly Straggler[]) {
  return stragglers.length === 0 ? null : (waive(s, stragglers) ?? 'hold')
}

/** Dial servers that are unproven and whose own agent is done: sooner, a refusal is certain and says nothing. */
function probe(
  s: Situation,
  epoch: Epoch,
  agents: readonly Straggler[],
  servers: readonly Straggler[],
): Effect[] {
  const late = new Set(agents.map((agent) => agent.name))
  const dialled = worthDialling(s, late, new Set(servers.map((server) => server.name)))
  return dialled.length > 0 ? [{ kind: 'probe-servers', epoch, servers: dialled }] : []
}

function worthDialling(s: Situation, late: ReadonlySet<string>, unproven: ReadonlySet<string>): string[] {
  return s.seen.servers
    .filter(({ name, agent }) => unproven.has(name) && agent !== null && !late.has(agent))
    .map(({ name }) => name)
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
    until: soonest(s.now, [...moments, ...retirement(s).moments, staleAt(s) + 1, forcedAt(s)]),
    effects: [
      ...effects,
      ...signerToMake(s),
      ...leftovers(s.state, s.bundle, s.seen),
      ...signerEffects(s.state, s.bundle.signers, s.seen.signers),
    ],
  }
}
