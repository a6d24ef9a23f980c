/**
 * Every phase against every event, with no gap: the compiler refuses a missing combination.
 * The states are those of `rotation-world.ts`; `events` says what is seen when the event happens.
 */
import type { RotorErrorCode } from '../../src/errors.ts'
import type {
  Move,
  Observations,
  ObservedConnections,
  Phase,
  RotationState,
  WaitReason,
} from '../../src/rotation/state.ts'
import { comingEpoch, epochEnd, epochStart } from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import type { Order } from '../../src/wire/requests.ts'
import { chainOf, client, countedAt } from './live-connections.ts'
import {
  agentsOf,
  at,
  bundleIn,
  epochsIn,
  HOUR,
  held,
  leaf,
  MINUTE,
  order,
  refused,
  refusing,
  root,
  rootsIn,
  SCHEDULE,
  serversOf,
  since,
  tainted,
  unmoved,
  withPayload,
} from './rotation-world.ts'

export type EventKind =
  | 'the bundle is not on the stream yet'
  | 'a newer bundle of another issuer is on the stream'
  | 'nobody has followed yet'
  | 'the agents followed, no server was dialled'
  | 'everyone followed'
  | 'everyone followed and the next epoch has started'
  | 'the newest key is missing'
  | 'the key that signs is lost'
  | 'one agent lags and the signer nears its end'
  | 'the signer ended'
  | 'every authority ended'
  | 'an old authority ended while one agent lags'
  | 'the bundle grows old while one agent lags'
  | 'a connection stands on an old authority that is due'
  | 'an old authority is due and nobody counted since'
  | 'an old authority is due and the servers can not be counted'
  | 'a rotation is ordered'
  | 'a rotation is forced at once'
  | 'a rotation is forced and patience is over'
  | 'a new root is ordered'
  | 'a new root is ordered and its key is made'
  | 'the key of the newest root is lost'
  | 'a server puts the new files back'
  | 'a withdrawal is ordered'
  | 'a rollback is ordered'
  | 'it is paused and the next epoch is due'
  | 'the authority that signs is tainted'
  | 'the authority that signs is tainted and one agent lags for too long'
  | 'an old authority is tainted'
  | 'an old authority was tainted and somebody holds it for too long'
  | 'a tainted authority left trust and servers take it'
  | 'a tainted authority left trust and every server refuses it'

export type Expected =
  | { readonly move: Move; readonly phase: Phase }
  | { readonly wait: WaitReason }
  | { readonly error: RotorErrorCode }

const conflict = { error: 'ERR_STATE_CONFLICT' } as const
const notPublished = { wait: 'not-published' } as const
const toSteady = { move: 'converge', phase: 'steady' } as const
const restarted = { move: 'restart', phase: 'converging' } as const
const prepared = { move: 'prepare', phase: 'distributing' } as const
const unknownRoot = { wait: 'agents-do-not-know-root' } as const
const activated = { move: 'activate', phase: 'converging' } as const

export const TABLE: Record<Phase, Record<EventKind, Expected>> = {
  steady: {
    'the bundle is not on the stream yet': notPublished,
    'a newer bundle of another issuer is on the stream': conflict,
    'nobody has followed yet': { wait: 'not-due' },
    'the agents followed, no server was dialled': { wait: 'not-due' },
    'everyone followed': { wait: 'not-due' },
    'everyone followed and the next epoch has started': prepared,
    'the newest key is missing': { wait: 'authority-not-created' },
    'the key that signs is lost': prepared,
    'one agent lags and the signer nears its end': prepared,
    'the signer ended': restarted,
    'every authority ended': restarted,
    'an old authority ended while one agent lags': { move: 'retire', phase: 'steady' },
    'the bundle grows old while one agent lags': { move: 'refresh', phase: 'steady' },
    'a connection stands on an old authority that is due': { wait: 'authority-still-needed' },
    'an old authority is due and nobody counted since': { wait: 'authority-still-needed' },
    'an old authority is due and the servers can not be counted': { move: 'retire', phase: 'steady' },
    'a rotation is ordered': prepared,
    'a rotation is forced at once': prepared,
    'a rotation is forced and patience is over': prepared,
    'a new root is ordered': { wait: 'root-not-created' },
    'a new root is ordered and its key is made': { move: 'introduce', phase: 'introducing' },
    'the key of the newest root is lost': { wait: 'not-due' },
    'a server puts the new files back': { wait: 'not-due' },
    'a withdrawal is ordered': { wait: 'not-due' },
    'a rollback is ordered': { move: 'rollback', phase: 'converging' },
    'it is paused and the next epoch is due': { wait: 'paused' },
    'the authority that signs is tainted': prepared,
    'the authority that signs is tainted and one agent lags for too long': prepared,
    'an old authority is tainted': { move: 'taint', phase: 'steady' },
    'an old authority was tainted and somebody holds it for too long': { move: 'retire', phase: 'steady' },
    'a tainted authority left trust and servers take it': { wait: 'tainted-still-trusted' },
    'a tainted authority left trust and every server refuses it': { move: 'distrust', phase: 'steady' },
  },
  distributing: {
    'the bundle is not on the stream yet': notPublished,
    'a newer bundle of another issuer is on the stream': conflict,
    'nobody has followed yet': { wait: 'agents-do-not-trust' },
    'the agents followed, no server was dialled': { wait: 'servers-not-proven' },
    'everyone followed': { wait: 'epoch-not-started' },
    'everyone followed and the next epoch has started': activated,
    'the newest key is missing': { move: 'withdraw', phase: 'withdrawing' },
    'the key that signs is lost': { wait: 'agents-do-not-trust' },
    'one agent lags and the signer nears its end': activated,
    'the signer ended': activated,
    'every authority ended': restarted,
    'an old authority ended while one agent lags': { move: 'retire', phase: 'distributing' },
    'the bundle grows old while one agent lags': { move: 'refresh', phase: 'distributing' },
    'a connection stands on an old authority that is due': { wait: 'agents-do-not-trust' },
    'an old authority is due and nobody counted since': { wait: 'agents-do-not-trust' },
    'an old authority is due and the servers can not be counted': { move: 'retire', phase: 'distributing' },
    'a rotation is ordered': activated,
    'a rotation is forced at once': { wait: 'agents-do-not-trust' },
    'a rotation is forced and patience is over': activated,
    'a new root is ordered': { wait: 'epoch-not-started' },
    'a new root is ordered and its key is made': { wait: 'epoch-not-started' },
    'the key of the newest root is lost': { wait: 'agents-do-not-trust' },
    'a server puts the new files back': { move: 'withdraw', phase: 'withdrawing' },
    'a withdrawal is ordered': { move: 'withdraw', phase: 'withdrawing' },
    'a rollback is ordered': { wait: 'epoch-not-started' },
    'it is paused and the next epoch is due': { wait: 'paused' },
    'the authority that signs is tainted': activated,
    'the authority that signs is tainted and one agent lags for too long': activated,
    'an old authority is tainted': { move: 'taint', phase: 'distributing' },
    'an old authority was tainted and somebody holds it for too long': {
      move: 'retire',
      phase: 'distributing',
    },
    'a tainted authority left trust and servers take it': { wait: 'epoch-not-started' },
    'a tainted authority left trust and every server refuses it': { wait: 'epoch-not-started' },
  },
  converging: {
    'the bundle is not on the stream yet': notPublished,
    'a newer bundle of another issuer is on the stream': conflict,
    'nobody has followed yet': { wait: 'agents-not-reissued' },
    'the agents followed, no server was dialled': { wait: 'servers-not-reissued' },
    'everyone followed': toSteady,
    'everyone followed and the next epoch has started': toSteady,
    'the newest key is missing': toSteady,
    'the key that signs is lost': toSteady,
    'one agent lags and the signer nears its end': toSteady,
    'the signer ended': toSteady,
    'every authority ended': toSteady,
    'an old authority ended while one agent lags': { move: 'retire', phase: 'converging' },
    'the bundle grows old while one agent lags': { move: 'refresh', phase: 'converging' },
    'a connection stands on an old authority that is due': { wait: 'agents-not-reissued' },
    'an old authority is due and nobody counted since': { wait: 'agents-not-reissued' },
    'an old authority is due and the servers can not be counted': { move: 'retire', phase: 'converging' },
    'a rotation is ordered': toSteady,
    'a rotation is forced at once': { wait: 'agents-not-reissued' },
    'a rotation is forced and patience is over': toSteady,
    'a new root is ordered': toSteady,
    'a new root is ordered and its key is made': toSteady,
    'the key of the newest root is lost': { wait: 'agents-not-reissued' },
    'a server puts the new files back': { move: 'rollback', phase: 'converging' },
    'a withdrawal is ordered': toSteady,
    'a rollback is ordered': { move: 'rollback', phase: 'converging' },
    'it is paused and the next epoch is due': toSteady,
    'the authority that signs is tainted': toSteady,
    'the authority that signs is tainted and one agent lags for too long': toSteady,
    'an old authority is tainted': { move: 'taint', phase: 'converging' },
    'an old authority was tainted and somebody holds it for too long': {
      move: 'retire',
      phase: 'converging',
    },
    'a tainted authority left trust and servers take it': toSteady,
    'a tainted authority left trust and every server refuses it': toSteady,
  },
  withdrawing: {
    'the bundle is not on the stream yet': notPublished,
    'a newer bundle of another issuer is on the stream': conflict,
    'nobody has followed yet': { wait: 'agents-still-trust' },
    'the agents followed, no server was dialled': toSteady,
    'everyone followed': toSteady,
    'everyone followed and the next epoch has started': toSteady,
    'the newest key is missing': { wait: 'agents-still-trust' },
    'the key that signs is lost': { wait: 'agents-still-trust' },
    'one agent lags and the signer nears its end': toSteady,
    'the signer ended': toSteady,
    'every authority ended': toSteady,
    'an old authority ended while one agent lags': { move: 'retire', phase: 'withdrawing' },
    'the bundle grows old while one agent lags': { move: 'refresh', phase: 'withdrawing' },
    'a connection stands on an old authority that is due': { wait: 'agents-still-trust' },
    'an old authority is due and nobody counted since': { wait: 'agents-still-trust' },
    'an old authority is due and the servers can not be counted': { move: 'retire', phase: 'withdrawing' },
    'a rotation is ordered': toSteady,
    'a rotation is forced at once': { wait: 'agents-still-trust' },
    'a rotation is forced and patience is over': toSteady,
    'a new root is ordered': toSteady,
    'a new root is ordered and its key is made': toSteady,
    'the key of the newest root is lost': { wait: 'agents-still-trust' },
    'a server puts the new files back': { wait: 'agents-still-trust' },
    'a withdrawal is ordered': toSteady,
    'a rollback is ordered': toSteady,
    'it is paused and the next epoch is due': toSteady,
    'the authority that signs is tainted': toSteady,
    'the authority that signs is tainted and one agent lags for too long': toSteady,
    'an old authority is tainted': { move: 'taint', phase: 'withdrawing' },
    'an old authority was tainted and somebody holds it for too long': {
      move: 'retire',
      phase: 'withdrawing',
    },
    'a tainted authority left trust and servers take it': toSteady,
    'a tainted authority left trust and every server refuses it': toSteady,
  },
  introducing: {
    'the bundle is not on the stream yet': notPublished,
    'a newer bundle of another issuer is on the stream': conflict,
    'nobody has followed yet': unknownRoot,
    'the agents followed, no server was dialled': toSteady,
    'everyone followed': toSteady,
    'everyone followed and the next epoch has started': toSteady,
    'the newest key is missing': unknownRoot,
    'the key that signs is lost': unknownRoot,
    'one agent lags and the signer nears its end': toSteady,
    'the signer ended': toSteady,
    'every authority ended': toSteady,
    'an old authority ended while one agent lags': { move: 'retire', phase: 'introducing' },
    'the bundle grows old while one agent lags': { move: 'refresh', phase: 'introducing' },
    'a connection stands on an old authority that is due': unknownRoot,
    'an old authority is due and nobody counted since': unknownRoot,
    'an old authority is due and the servers can not be counted': { move: 'retire', phase: 'introducing' },
    'a rotation is ordered': toSteady,
    'a rotation is forced at once': unknownRoot,
    'a rotation is forced and patience is over': toSteady,
    'a new root is ordered': toSteady,
    'a new root is ordered and its key is made': toSteady,
    'the key of the newest root is lost': toSteady,
    'a server puts the new files back': unknownRoot,
    'a withdrawal is ordered': toSteady,
    'a rollback is ordered': toSteady,
    'it is paused and the next epoch is due': toSteady,
    'the authority that signs is tainted': toSteady,
    'the authority that signs is tainted and one agent lags for too long': toSteady,
    'an old authority is tainted': { move: 'taint', phase: 'introducing' },
    'an old authority was tainted and somebody holds it for too long': {
      move: 'retire',
      phase: 'introducing',
    },
    'a tainted authority left trust and servers take it': toSteady,
    'a tainted authority left trust and every server refuses it': toSteady,
  },
}

export interface Scene {
  readonly now: Instant
  readonly seen?: Partial<Observations>
  readonly state?: RotationState
}

/** Soon after the phase began. */
const soon = (state: RotationState): Instant => Math.max(state.since, epochStart(SCHEDULE, 104)) + MINUTE
const nextEpochStart = (state: RotationState): Instant =>
  epochStart(SCHEDULE, state.newest + (state.phase === 'distributing' ? 0 : 1))
const end = (state: RotationState): Instant => epochEnd(SCHEDULE, state.active)
const allKeys = (state: RotationState, now: Instant) =>
  [...new Set([...epochsIn(state), state.newest + 1, comingEpoch(SCHEDULE, now)])].map(held)
const lagging = (state: RotationState) =>
  agentsOf(state, {
    orders: { version: state.phaseVersion - 1, leaf: leaf(epochsIn(state)[0] ?? 0, end(state)) },
  })

/** What is seen when the event happens in this state; all else is well. */
export const EVENTS: Record<EventKind, (state: RotationState) => Scene> = {
  'the bundle is not on the stream yet': (state) => ({
    now: soon(state),
    seen: { published: state.version - 1 },
  }),
  'a newer bundle of another issuer is on the stream': (state) => ({
    now: soon(state),
    seen: { published: state.version + 1 },
  }),
  'nobody has followed yet': (state) => ({ now: soon(state), seen: { agents: unmoved(state) } }),
  'the agents followed, no server was dialled': (state) => ({
    now: soon(state),
    seen: {
      servers: serversOf(state, 0).map((server) => ({
        ...server,
        listeners: server.listeners.map((listener) => ({ ...listener, proof: null })),
      })),
    },
  }),
  'everyone followed': (state) => ({ now: soon(state) }),
  'everyone followed and the next epoch has started': (state) => ({ now: nextEpochStart(state) }),
  'the newest key is missing': (state) => ({
    now: state.phase === 'steady' ? nextEpochStart(state) - MINUTE : soon(state),
    seen: {
      held: epochsIn(state)
        .filter((epoch) => state.phase === 'steady' || epoch < state.newest)
        .map(held),
      agents: unmoved(state),
    },
  }),
  'the key that signs is lost': (state) => ({
    now: soon(state),
    seen: {
      held: allKeys(state, soon(state)).filter((authority) => authority.epoch !== state.active),
      agents: unmoved(state),
    },
  }),
  'one agent lags and the signer nears its end': (state) => scene(state, end(state) - HOUR),
  'the signer ended': (state) => scene(state, end(state)),
  'every authority ended': (state) => scene(state, end(state) + 2 * HOUR),
  'an old authority ended while one agent lags': (state) => {
    const now = Math.max(epochEnd(SCHEDULE, epochsIn(state)[0] ?? 0), soon(state))
    return { now, seen: { agents: lagging(state), held: epochsIn(state).map(held) } }
  },
  'the bundle grows old while one agent lags': (state) => ({
    now: soon(state),
    state: withPayload(state, { expiresAt: formatInstant(soon(state) + HOUR - 1) }),
    seen: { agents: unmoved(state) },
  }),
  'a connection stands on an old authority that is due': (state) =>
    due(state, (now, oldest) =>
      countedAt(state, now, [client(at(oldest), { certificates: chainOf('billing', oldest) })]),
    ),
  'an old authority is due and nobody counted since': (state) => due(state, () => countedAt(state, 0)),
  'an old authority is due and the servers can not be counted': (state) =>
    due(state, (now) => countedAt(state, now, [], 'n2: no answer')),
  'a rotation is ordered': (state) => ({
    now: soon(state),
    state: { ...state, order: order(false, soon(state)) },
  }),
  'a rotation is forced at once': (state) => ({
    now: state.since + MINUTE,
    state: { ...state, order: order(true, soon(state)) },
    seen: { agents: unmoved(state) },
  }),
  'a rotation is forced and patience is over': (state) => ({
    now: state.since + SCHEDULE.lead,
    state: { ...state, order: order(true, soon(state)) },
    seen: { agents: unmoved(state) },
  }),
  'a new root is ordered': (state) => ({ now: soon(state), state: rootOrdered(state) }),
  'a new root is ordered and its key is made': (state) => ({
    now: soon(state),
    state: rootOrdered(state),
    seen: { roots: [...rootsIn(state), root(state.newestRoot + 1)] },
  }),
  'the key of the newest root is lost': (state) => ({
    now: soon(state),
    seen: { roots: rootsIn(state).slice(0, -1), agents: unmoved(state) },
  }),
  'a server puts the new files back': (state) => ({
    now: soon(state),
    seen: {
      agents: unmoved(state).map((agent) =>
        agent.name === 'n1' && agent.status !== null
          ? { ...agent, status: { ...agent.status, ...refused(state, 'ERR_RELOAD_REFUSED') } }
          : agent,
      ),
    },
  }),
  'a withdrawal is ordered': (state) => ({ now: soon(state), state: given(state, 'withdraw') }),
  'a rollback is ordered': (state) => ({ now: soon(state), state: given(state, 'rollback') }),
  'it is paused and the next epoch is due': (state) => ({
    now: nextEpochStart(state) - (state.phase === 'steady' ? MINUTE : 0),
    state: { ...state, paused: { by: 'alice', reason: 'a freeze', at: soon(state) } },
  }),
  'the authority that signs is tainted': (state) => ({
    now: soon(state),
    state: tainted(state, state.active, soon(state)),
    seen: { held: allKeys(state, soon(state)) },
  }),
  'the authority that signs is tainted and one agent lags for too long': (state) => ({
    now: soon(state) + MINUTE,
    state: tainted(state, state.active, soon(state)),
    seen: { agents: lagging(state), held: allKeys(state, soon(state)) },
  }),
  'an old authority is tainted': (state) => ({
    now: soon(state),
    state: tainted(state, oldest(state), soon(state)),
    seen: { agents: lagging(state) },
  }),
  'an old authority was tainted and somebody holds it for too long': (state) => ({
    now: soon(state) + MINUTE,
    state: alreadyMarked(tainted(state, oldest(state), soon(state))),
    seen: { agents: lagging(state) },
  }),
  'a tainted authority left trust and servers take it': (state) => ({
    now: soon(state) + MINUTE,
    state: distrusted(state),
    seen: { held: allKeys(state, soon(state)) },
  }),
  'a tainted authority left trust and every server refuses it': (state) => {
    const now = soon(state) + MINUTE
    const servers =
      state.phase === 'steady'
        ? { servers: refusing(state, oldest(state), { since: soon(state), at: now }) }
        : {}
    return { now, state: distrusted(state), seen: { held: allKeys(state, soon(state)), ...servers } }
  },
}

const oldest = (state: RotationState): number => Math.min(...epochsIn(state))

const given = (state: RotationState, kind: Order['kind']): RotationState => ({
  ...state,
  order: order(false, soon(state), kind),
})

const alreadyMarked = (state: RotationState): RotationState =>
  withPayload(state, {
    authorities: bundleIn(state).authorities.map((authority) =>
      state.tainted[authority.epoch] === undefined ? authority : { ...authority, status: 'tainted' },
    ),
  })

/** The oldest authority was tainted and has left with the version of this phase. */
const distrusted = (state: RotationState): RotationState => {
  const removed = { at: state.since, version: state.phaseVersion, cutOff: [] }
  return since(tainted(state, oldest(state), state.since, { removed }), oldest(state) + 1)
}

/** The lead before the oldest authority ends, while the phase waits for its agents and no rotation comes between. */
function due(state: RotationState, count: (now: Instant, oldest: number) => ObservedConnections): Scene {
  const oldest = epochsIn(state)[0] ?? 0
  const now = Math.max(epochEnd(SCHEDULE, oldest) - SCHEDULE.lead, soon(state))
  const agents = state.phase === 'steady' ? agentsOf(state) : unmoved(state)
  return {
    now,
    state: { ...state, newest: 200 },
    seen: { agents, held: epochsIn(state).map(held), connections: count(now, oldest) },
  }
}
const rootOrdered = (state: RotationState): RotationState => ({
  ...state,
  order: order(false, soon(state), 'root-rotate'),
})

const scene = (state: RotationState, now: Instant): Scene => ({
  now,
  seen: { agents: lagging(state), held: allKeys(state, now) },
})
