/** A small domain as plain values: states of every phase, and what would be seen if all were well. */

import { encodePayload, payloadDigest } from '../../src/bundle/payload.ts'
import type { RotorErrorCode } from '../../src/errors.ts'
import { advance, bootstrap } from '../../src/rotation/advance.ts'
import type {
  Decision,
  HeldAuthority,
  HeldRoot,
  Move,
  Observations,
  ObservedServer,
  Phase,
  RotationPolicy,
  RotationState,
  Taint,
  WaitReason,
} from '../../src/rotation/state.ts'
import { type Epoch, epochEnd, epochStart, makeSchedule, type Schedule } from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import { pemSha256 } from '../../src/trust/pem.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import type { Order } from '../../src/wire/requests.ts'
import type { AgentStatus } from '../../src/wire/status.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE

/** Epochs of one hour, four of validity, five minutes of lead: epoch 104 starts at hour 104. */
export const SCHEDULE: Schedule = makeSchedule({ epochZero: 0, epochDuration: HOUR })

/** `at(104, 55)`: five minutes before epoch 105 starts. */
export const at = (epoch: Epoch, minutes = 0): Instant => epochStart(SCHEDULE, epoch) + minutes * MINUTE

export const hex = (text: string): string => payloadDigest(text)

export const held = (epoch: Epoch): HeldAuthority => ({
  epoch,
  certificate: `-----BEGIN CERTIFICATE-----\nauthority ${epoch}\n-----END CERTIFICATE-----\n`,
  sha256: hex(`authority ${epoch}`),
  notBefore: epochStart(SCHEDULE, epoch) - SCHEDULE.epochDuration,
  notAfter: epochEnd(SCHEDULE, epoch),
})

/** `root(2)`: what the key store has for the second root. */
export function root(number: number, body = `root ${number}`): HeldRoot {
  const base64 = Buffer.from(body).toString('base64')
  const certificate = `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`
  const sha256 = pemSha256(certificate, 'root', 'ERR_INTERNAL')
  return { number, certificate, sha256, notBefore: at(0), notAfter: at(1_000_000) }
}

export function genesisPayload(
  epoch: Epoch,
  schedule: Schedule = SCHEDULE,
  authority = held(epoch),
): BundlePayload {
  const { certificate, sha256 } = authority
  return {
    v: 1,
    domain: 'prod',
    version: 1,
    epoch,
    issuedAt: formatInstant(epochStart(schedule, epoch)),
    expiresAt: formatInstant(epochEnd(schedule, epoch)),
    previous: null,
    reason: 'init',
    authorities: [{ epoch, status: 'active', certificate, sha256 }],
    roots: [root(1).certificate],
    signers: [{ kty: 'OKP', crv: 'Ed25519', x: 'x'.repeat(43), kid: 'k'.repeat(43) }],
    schedule: { ...schedule, epochZero: formatInstant(schedule.epochZero) },
  }
}

export const genesis = (epoch: Epoch): RotationState =>
  bootstrap({ domain: 'prod', payload: encodePayload(genesisPayload(epoch)), fence: 7 }, at(epoch))

export const bundleIn = (state: RotationState): BundlePayload => JSON.parse(state.payload)

export const epochsIn = (state: RotationState): Epoch[] => bundleIn(state).authorities.map((a) => a.epoch)

export const statusesIn = (state: RotationState): Record<Epoch, string> =>
  Object.fromEntries(bundleIn(state).authorities.map((a) => [a.epoch, a.status]))

/** The same state with another payload in it, as if it had been written so. */
export function withPayload<S extends RotationState>(state: S, change: Partial<BundlePayload>): S {
  const payload = encodePayload({ ...bundleIn(state), ...change })
  return { ...state, payload, digest: payloadDigest(payload) }
}

/** The same state with the authorities of older epochs gone from trust. */
export const since = <S extends RotationState>(state: S, epoch: Epoch): S =>
  withPayload(state, { authorities: bundleIn(state).authorities.filter((a) => a.epoch >= epoch) })

// ---- what is seen

export const AGENTS = ['issuer', 'n1', 'n2', 'orders'] as const

export function status(state: RotationState, change: Partial<AgentStatus> = {}): AgentStatus {
  const { active, version, digest } = state
  return {
    v: 1,
    agent: 'orders',
    role: 'service',
    version,
    digest: change.version === undefined ? digest : hex(`version ${change.version}`),
    state: 'applied',
    step: 'idle',
    leaf: leaf(active),
    targets: [],
    usage: [],
    configs: [],
    clockOffsetMs: 0,
    clockBoundMs: 0,
    lastError: null,
    started: formatInstant(0),
    at: formatInstant(0),
    software: 'test',
    ...change,
  }
}

export const leaf = (
  issuerEpoch: Epoch,
  notAfter: Instant = epochEnd(SCHEDULE, issuerEpoch),
): AgentStatus['leaf'] => ({
  fingerprint: hex(`leaf of ${issuerEpoch}`),
  issuerEpoch,
  notAfter: formatInstant(notAfter),
})

type Agents = Observations['agents']

export const agentsOf = (
  state: RotationState,
  changes: Record<string, Partial<AgentStatus> | null> = {},
): Agents =>
  AGENTS.map((name) => {
    const change = changes[name]
    return { name, status: change === null ? null : status(state, { agent: name, ...change }) }
  })

export const serversOf = (
  state: RotationState,
  now: Instant,
  change: Partial<ObservedServer> = {},
): ObservedServer[] =>
  ['n1', 'n2'].map((name) => ({
    name,
    agent: name,
    listeners: (['client', 'cluster'] as const).map((kind) => ({
      kind,
      address: `127.0.0.1:${kind === 'client' ? 4222 : 6222}`,
      proof: { at: now, accepts: epochsIn(state), serves: state.active, error: null },
    })),
    ...(name === 'n1' ? change : {}),
  }))

/** All is well: everything is published, applied, proven and held. Every authority is of the first root. */
export function healthy(
  state: RotationState,
  now: Instant,
  change: Partial<Observations> = {},
): Observations {
  const keys = change.held ?? [
    ...epochsIn(state).map(held),
    held(Math.max(state.newest, ...epochsIn(state)) + 1),
  ]
  return {
    held: keys,
    roots: rootsIn(state),
    signedBy: signedBy([...keys, ...bundleIn(state).authorities]),
    published: state.version,
    agents: agentsOf(state),
    servers: serversOf(state, now),
    ...change,
  }
}

/** The roots of a bundle, as the key store has them. */
export const rootsIn = (state: RotationState): HeldRoot[] =>
  [1, 2, 3].map((number) => root(number)).filter((r) => bundleIn(state).roots.includes(r.certificate))

/** All of these are of the first root, but for the epochs in `others`. */
export const signedBy = (
  authorities: readonly { readonly epoch: Epoch; readonly sha256: string }[],
  others: Readonly<Record<Epoch, HeldRoot>> = {},
): Record<string, string> =>
  Object.fromEntries(authorities.map(({ epoch, sha256 }) => [sha256, (others[epoch] ?? root(1)).sha256]))

/** All agents as they were before this phase began: nobody has followed yet. */
export const unmoved = (state: RotationState): Agents => {
  const before = state.phase === 'converging' ? { leaf: leaf(state.previous) } : {}
  const behind = { version: Math.max(1, state.phaseVersion - 1), ...before }
  return agentsOf(state, Object.fromEntries(AGENTS.map((name) => [name, behind])))
}

export const order = (force: boolean, now: Instant, kind: Order['kind'] = 'rotate'): Order => ({
  v: 1,
  kind,
  crossSign: false,
  force,
  reason: 'drill',
  by: 'alice',
  at: formatInstant(now),
})

/** The state with an authority tainted at `now`; `removed`: it left trust with the version of the state. */
export const tainted = <S extends RotationState>(
  state: S,
  epoch: Epoch,
  now: Instant,
  change: Partial<Taint> = {},
): S => ({
  ...state,
  tainted: {
    ...state.tainted,
    [epoch]: {
      by: 'alice',
      reason: 'stolen',
      at: now,
      sha256: held(epoch).sha256,
      leaves: [],
      removed: null,
      ...change,
    },
  },
})

/** An agent that put a version back, or could not even publish it. */
export const refused = (
  state: RotationState,
  code: RotorErrorCode,
  change: Partial<AgentStatus> = {},
): Partial<AgentStatus> => ({
  version: state.phaseVersion - 1,
  state: 'rolled-back',
  lastError: { code, message: 'no', at: formatInstant(state.since), version: state.phaseVersion },
  ...change,
})

/** The servers as they are when each of their listeners has refused a leaf of this epoch since then. */
export const refusing = (
  state: RotationState,
  epoch: Epoch,
  { since, at }: { readonly since: Instant; readonly at: Instant },
): ObservedServer[] =>
  serversOf(state, at).map((server) => ({
    ...server,
    listeners: server.listeners.map((listener) => ({
      ...listener,
      proof: { at, accepts: [], serves: state.active, refuses: { epoch, since }, error: 'unknown ca' },
    })),
  }))

// ---- what is decided

export const decide = (
  state: RotationState,
  now: Instant,
  seen: Partial<Observations> = {},
  policy: RotationPolicy = {},
): Decision => advance(state, healthy(state, now, seen), policy, now)

/** The decision, which has to be this move. */
export function expectMove(decision: Decision, move: Move): Extract<Decision, { kind: 'move' }> {
  if (decision.kind !== 'move' || decision.move !== move) {
    throw new Error(`expected the move ${move}, found ${describe(decision)}`)
  }
  return decision
}

/** The decision, which has to be to wait for this reason. */
export function expectWait(decision: Decision, reason: WaitReason): Extract<Decision, { kind: 'wait' }> {
  if (decision.kind !== 'wait' || decision.reason !== reason) {
    throw new Error(`expected to wait for ${reason}, found ${describe(decision)}`)
  }
  return decision
}

const describe = (decision: Decision): string =>
  decision.kind === 'move' ? `move ${decision.move} (${decision.reason})` : `wait ${decision.reason}`

/** Turns in a healthy domain until it has nothing to do at `now`. */
export function settle(state: RotationState, now: Instant): RotationState {
  for (let turn = 0; turn < 20; turn++) {
    const decision = decide(state, now)
    if (decision.kind === 'wait') return state
    state = decision.to
  }
  throw new Error(`the domain does not come to rest at ${formatInstant(now)}`)
}

type In<P extends Phase> = Extract<RotationState, { phase: P }>

function as<P extends Phase>(state: RotationState, phase: P): In<P> {
  if (state.phase !== phase) throw new Error(`expected ${phase}, found ${state.phase}`)
  return state as In<P>
}

/** A domain that has lived since epoch 100, in the middle of epoch 104: 101 to 104 are trusted, 104 signs. */
export function steadyState(): In<'steady'> {
  let state = genesis(100)
  for (let now = at(100); now <= at(104, 30); now += 5 * MINUTE) state = settle(state, now)
  return as(state, 'steady')
}

/** Since 104:55: 105 is prepared, 101 has left trust. */
export const distributingState = (): In<'distributing'> =>
  as(expectMove(decide(steadyState(), at(104, 55)), 'prepare').to, 'distributing')

/** Since 105:00: 105 signs after 104. */
export const convergingState = (): In<'converging'> =>
  as(expectMove(decide(distributingState(), at(105)), 'activate').to, 'converging')

/** Since 104:57: the key of 105 was lost, 104 goes on signing. */
export function withdrawingState(): In<'withdrawing'> {
  const state = distributingState()
  const keys = epochsIn(state)
    .filter((epoch) => epoch !== 105)
    .map(held)
  return as(expectMove(decide(state, at(104, 57), { held: keys }), 'withdraw').to, 'withdrawing')
}

/** Since 104:30: a second root is in the bundle, everything is of the first one. */
export function introducingState(): In<'introducing'> {
  const now = at(104, 30)
  const state = { ...steadyState(), order: order(false, now, 'root-rotate') }
  return as(expectMove(decide(state, now, { roots: [root(1), root(2)] }), 'introduce').to, 'introducing')
}

export const STATES: { readonly [P in Phase]: () => In<P> } = {
  steady: steadyState,
  distributing: distributingState,
  converging: convergingState,
  withdrawing: withdrawingState,
  introducing: introducingState,
}
