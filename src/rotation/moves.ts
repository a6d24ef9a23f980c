/** What each move writes: the new state, the bundle in it, and the effects that make the world follow. */
import type { Epoch } from '../schedule.ts'
import { formatInstant } from '../time.ts'
import type { AuthorityStatus, BundleAuthority } from '../wire/bundle.ts'
import type { Order } from '../wire/requests.ts'
import { uncounted } from './connections.ts'
import { inShort, waiverText } from './hold.ts'
import { type Content, clip, following, rootsIn } from './payloads.ts'
import { NOTHING_PENDING, noteMove, recordOf } from './record.ts'
import { type Retirement, retirement, retireReason } from './retire.ts'
import { holdsNewestRoot, remainingRoots, removalReason } from './roots.ts'
import { type SignerStep, signerEffects } from './signers.ts'
import { endOf, hasEnded, type In, type Situation } from './situation.ts'
import type {
  Decision,
  Effect,
  HeldAuthority,
  HeldRoot,
  Move,
  Observations,
  RotationState,
  Waiver,
} from './state.ts'
import { type Distrust, marked, taintReason, taintsAfter, unmarked } from './taint.ts'

type Moved = Extract<Decision, { kind: 'move' }>
/** The part of a state that says where it stands. */
type Standing =
  | { readonly phase: 'steady'; readonly active: Epoch }
  | { readonly phase: 'distributing'; readonly active: Epoch; readonly next: Epoch }
  | { readonly phase: 'converging'; readonly active: Epoch; readonly previous: Epoch }
  | { readonly phase: 'withdrawing'; readonly active: Epoch; readonly dropped: Epoch }
  | { readonly phase: 'introducing'; readonly active: Epoch }

/** steady -> distributing: trust first. */
export function prepare(s: In<'steady'>, next: HeldAuthority, why: string): Moved {
  return enter(s, 'prepare', { phase: 'distributing', active: s.state.active, next: next.epoch }, why, {
    authorities: [...s.bundle.authorities, entry(next, 'prepared')],
  })
}

/** distributing -> converging: use later. */
export function activate(s: In<'distributing'>, waiver: Waiver | null): Moved {
  const { active, next } = s.state
  const why = `activate epoch ${next} after ${active}${waiverText(waiver)}`
  return enter(s, 'activate', { phase: 'converging', active: next, previous: active }, why, {
    authorities: s.bundle.authorities.map((authority) => {
      if (authority.epoch === next) return withStatus(authority, 'active')
      return authority.epoch === active ? withStatus(authority, 'retiring') : authority
    }),
    waiver,
  })
}

/**
 * converging or steady -> converging: an authority that everybody trusts signs again. The one that signed stays in trust
 * until nobody depends on it, and every order ends with it.
 */
export function rollback(s: In<'converging'> | In<'steady'>, target: Epoch, why: string): Moved {
  const { active } = s.state
  const text = `roll back from epoch ${active} to ${target}: ${why}`
  return enter(s, 'rollback', { phase: 'converging', active: target, previous: active }, text, {
    authorities: s.bundle.authorities.map((authority) => {
      if (authority.epoch === target) return withStatus(authority, 'active')
      return authority.epoch === active ? withStatus(authority, 'retiring') : authority
    }),
    order: unlessRotation(s.state.order),
  })
}

/** distributing -> withdrawing: back out before the first use. A rotation that was ordered ends with it. */
export function withdraw(s: In<'distributing'>, why: string): Moved {
  const { active, next } = s.state
  return enter(
    s,
    'withdraw',
    { phase: 'withdrawing', active, dropped: next },
    `withdraw epoch ${next}: ${why}`,
    {
      authorities: s.bundle.authorities.filter((authority) => authority.epoch !== next),
      order: unlessRotation(s.state.order),
    },
  )
}

/**
 * steady or distributing -> converging, without distributing: the signer has ended, so no leaf of the domain is valid,
 * no bundle that names it as the signer would be accepted, and there is no trust left to wait for.
 */
export function restart(s: In<'steady'> | In<'distributing'>, fresh: HeldAuthority): Moved {
  const { active } = s.state
  const names = [...s.seen.agents, ...s.seen.servers].map((node) => node.name)
  const ended = `epoch ${active} signed and ended at ${formatInstant(endOf(s, active))}`
  const why = `restart with epoch ${fresh.epoch}: ${ended}, every node has to join again`
  // after a rollback a newer authority may be left, and leaves of it
  const valid = s.bundle.authorities.filter(
    ({ epoch, status }) => status !== 'prepared' && !hasEnded(s, epoch),
  )
  return enter(s, 'restart', { phase: 'converging', active: fresh.epoch, previous: active }, why, {
    authorities: [...valid, entry(fresh, 'active')],
    waiver: { names: [...new Set(names)], reason: ended, at: s.now },
  })
}

/**
 * steady -> introducing: trust in a new root first. What is left of the order then is a rotation, and its authority
 * will be the first one under that root.
 */
export function introduce(s: In<'steady'>, order: Order, root: HeldRoot): Moved {
  const name = root.sha256.slice(0, 8)
  const why = `introduce root ${name}: ordered by ${order.by}: ${order.reason}`
  return enter(s, 'introduce', { phase: 'introducing', active: s.state.active }, why, {
    authorities: s.bundle.authorities,
    root,
    order: { ...order, kind: 'rotate' },
  })
}

/** Authorities leave trust, and roots that nothing needs any more; the phase goes on. Its reason is the text that every move adds for them. */
export const retire = (s: Situation): Moved => stay(s, 'retire', '')

/** The bundle says which authorities are tainted; the phase goes on. */
export const taint = (s: Situation): Moved => stay(s, 'taint', taintReason(s, unmarked(s)))

/** The bundle names other signers; the phase goes on. */
export function changeSigners(s: Situation, step: SignerStep): Moved {
  const { move, why, signers, succession } = step
  const { to, ...rest } = stay(s, move, why, { signers, succession })
  const next: RotationState = { ...to, ...step.state(to.version) }
  return { ...rest, to: next, effects: [...rest.effects, ...signerEffects(next, signers, s.seen.signers)] }
}

/** Nobody trusts a tainted authority any more, or it has ended: nothing is left to do, and its key goes. */
export function distrust(s: Situation, { epoch, removed }: Distrust): Moved {
  const { [epoch]: _, ...tainted } = s.state.tainted
  const left = removed.cutOff.length === 0 ? '' : `; cut off: ${inShort(removed.cutOff)}`
  const why = hasEnded(s, epoch)
    ? `tainted epoch ${epoch} has ended`
    : `nobody trusts epoch ${epoch} any more${uncounted(s)}`
  const reason = clip(why + left)
  const pending = noteMove(s.state.pending, 'distrust', reason, null, s.now)
  const to: RotationState = { ...s.state, tainted, pending }
  return {
    kind: 'move',
    move: 'distrust',
    to,
    reason,
    effects: leftovers(to, s.bundle, s.seen),
  }
}

/** The same trust again, before agents would refuse the bundle as too old; the phase goes on. */
export const refresh = (s: Situation): Moved =>
  stay(s, 'refresh', `refresh: the bundle before is accepted until ${s.bundle.expiresAt} only`)

/**
 * converging, withdrawing or introducing -> steady. The bundle says it already, so none is published. What was ordered
 * is done, but for a new root that waits for its turn, and for the rotation under a root that was just introduced.
 */
export function converge(
  s: In<'converging'> | In<'withdrawing'> | In<'introducing'>,
  waiver: Waiver | null,
): Moved {
  const { active, phase } = s.state
  const goesOn = phase === 'introducing' && holdsNewestRoot(s)
  const reason = clip(doneReason(s) + waiverText(waiver))
  const to: RotationState = {
    ...carried(s.state),
    pending: noteMove(s.state.pending, 'converge', reason, waiver, s.now),
    since: s.now,
    order: goesOn ? s.state.order : unlessRotation(s.state.order),
    waivers: goesOn ? withWaiver(s.state, waiver) : [],
    phaseVersion: s.state.version,
    phase: 'steady',
    active,
  }
  return { kind: 'move', move: 'converge', to, reason, effects: leftovers(to, s.bundle, s.seen) }
}

function doneReason(s: In<'converging'> | In<'withdrawing'> | In<'introducing'>): string {
  const { active } = s.state
  if (s.state.phase === 'converging') return `converged on epoch ${active}`
  if (s.state.phase === 'withdrawing') return `epoch ${s.state.dropped} is withdrawn, epoch ${active} signs`
  const name = s.roots[0]?.slice(0, 8)
  return holdsNewestRoot(s)
    ? `root ${name} is introduced`
    : `root ${name} is given up before its first use: its key is lost`
}

const withWaiver = ({ waivers }: RotationState, waiver: Waiver | null): Waiver[] =>
  waiver === null ? waivers : [...waivers, waiver]

/** The order when it is for a new root, which waits; any other ends here. */
const unlessRotation = (order: Order | null): Order | null => (order?.kind === 'root-rotate' ? order : null)

interface Changes {
  readonly authorities: readonly BundleAuthority[]
  readonly waiver?: Waiver | null
  /** @default as it is */
  readonly order?: Order | null
  /** A new root. */
  readonly root?: HeldRoot
}

/** A move into a phase. Whatever may retire leaves with the same bundle. */
function enter(s: Situation, move: Move, standing: Standing, why: string, changes: Changes): Moved {
  const { state } = s
  const signerEnded = standing.active !== state.active && hasEnded(s, state.active)
  const leaving = retirement(s)
  const gone = [
    ...leaving.ready.filter((epoch) => epoch !== standing.active),
    ...(signerEnded ? [state.active] : []),
  ]
  const { waiver = null, order = state.order, root = null } = changes
  const content = publishing(s, standing.active, changes.authorities, { ...leaving, ready: gone }, why, {
    root,
    record: recordOf(s, move, waiver),
  })
  const stopped = { [state.active]: { at: s.now, version: content.version } }
  const { [standing.active]: _, ...others } = state.replaced
  const replaced = standing.active === state.active ? state.replaced : { ...others, ...stopped }
  const to: RotationState = {
    ...carried(state),
    pending: NOTHING_PENDING,
    ...standing,
    payload: content.payload,
    digest: content.digest,
    version: content.version,
    since: s.now,
    order,
    waivers: withWaiver(state, waiver),
    phaseVersion: content.version,
    newest: Math.max(state.newest, ...content.authorities.map((authority) => authority.epoch)),
    replaced: only(replaced, content.authorities),
    tainted: taintsAfter(s, content.authorities, content.version, leaving.cutOff),
    newestRoot: Math.max(state.newestRoot, root?.number ?? 0),
  }
  return moved(s, move, to, content)
}

/** A move that publishes and leaves the phase, its beginning and its required version as they are. */
function stay(s: Situation, move: Move, why: string, more: Signing = {}): Moved {
  const leaving = retirement(s)
  const content = publishing(s, s.state.active, s.bundle.authorities, leaving, why, {
    ...more,
    record: recordOf(s, move, null),
  })
  const to: RotationState = {
    ...s.state,
    pending: NOTHING_PENDING,
    payload: content.payload,
    digest: content.digest,
    version: content.version,
    replaced: only(s.state.replaced, content.authorities),
    tainted: taintsAfter(s, content.authorities, content.version, leaving.cutOff),
  }
  return moved(s, move, to, content)
}

type Signing = Partial<Pick<Content, 'signers' | 'succession'>>
type Extras = Signing & Pick<Content, 'record'> & { readonly root?: HeldRoot | null }

interface Publication {
  readonly payload: string
  readonly digest: string
  readonly version: number
  readonly reason: string
  readonly authorities: readonly BundleAuthority[]
  readonly roots: readonly string[]
}

function publishing(
  s: Situation,
  epoch: Epoch,
  before: readonly BundleAuthority[],
  leaving: Retirement,
  why: string,
  more: Extras,
): Publication {
  const { root = null, ...rest } = more
  const { ready: gone } = leaving
  const staying = before.filter((authority) => !gone.includes(authority.epoch))
  const authorities = marked(s.state, staying, epoch)
  const roots = remainingRoots(s, authorities, root)
  const also = [retireReason(s, gone, leaving), removalReason(s, roots)]
  const reason = clip([why, ...also].filter((part) => part !== '').join('; '))
  const content = { epoch, authorities, roots, reason, ...rest }
  return { ...following(s.state, s.bundle, content, s.now), ...content }
}

const moved = (s: Situation, move: Move, to: RotationState, content: Publication): Moved => ({
  kind: 'move',
  move,
  to,
  reason: content.reason,
  effects: [publishBundle(to), ...leftovers(to, content, s.seen)],
})

export const publishBundle = (state: RotationState): Effect => ({
  kind: 'publish-bundle',
  version: state.version,
})

/**
 * Keys of authorities and roots that were in a bundle and are not any more. Because an epoch or the number of a root is
 * never used twice, this set only grows: an issuer that works with an old state can not delete a key that a newer
 * state needs.
 */
export function leftovers(
  state: RotationState,
  bundle: { readonly authorities: readonly BundleAuthority[]; readonly roots: readonly string[] },
  seen: Observations,
): Effect[] {
  const trusted = new Set(rootsIn(bundle))
  const authorities = seen.held
    .filter(({ epoch }) => epoch <= state.newest && !bundle.authorities.some((a) => a.epoch === epoch))
    // with it the leaf is made that every listener has to refuse
    .filter(({ epoch }) => state.tainted[epoch] === undefined)
    .map(({ epoch }): Effect => ({ kind: 'delete-authority', epoch }))
  const roots = seen.roots
    .filter(({ number, sha256 }) => number <= state.newestRoot && !trusted.has(sha256))
    .map(({ number }): Effect => ({ kind: 'delete-root', number }))
  return [...authorities, ...roots]
}

/** What every state carries on; where it stands is written anew. */
function carried(state: RotationState) {
  const { v, domain, fence, payload, digest, version, newest, replaced, newestRoot, tainted, paused } = state
  const { newestSigner, signer } = state
  const stays = { newest, replaced, newestRoot, tainted, paused, newestSigner, signer }
  return { v, domain, fence, payload, digest, version, ...stays }
}

const entry = (authority: HeldAuthority, status: AuthorityStatus): BundleAuthority => ({
  epoch: authority.epoch,
  status,
  certificate: authority.certificate,
  sha256: authority.sha256,
})

const withStatus = (authority: BundleAuthority, status: AuthorityStatus): BundleAuthority => ({
  ...authority,
  status,
})

const only = (
  replaced: RotationState['replaced'],
  authorities: readonly BundleAuthority[],
): RotationState['replaced'] =>
  Object.fromEntries(
    Object.entries(replaced).filter(([epoch]) => authorities.some((a) => a.epoch === Number(epoch))),
  )
