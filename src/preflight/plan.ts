/**
 * What would an ordered rotation do, step by step, and where would it stop? The real decision (`applyOrder`, `advance`) walks
 * on the stored state in memory. What is imagined is the world around it: keys that are made, bundles that are published,
 * and nodes that follow as soon as they may; those that stand still now, and listeners that could not be proven, go on
 * doing so. Nothing is written and nothing is signed.
 */
import { RotorError } from '../errors.ts'
import { advance } from '../rotation/advance.ts'
import { passOverAt } from '../rotation/hold.ts'
import { applyOrder } from '../rotation/orders.ts'
import { bundleOf } from '../rotation/payloads.ts'
import { situation } from '../rotation/situation.ts'
import type {
  Decision,
  Effect,
  HeldAuthority,
  HeldRoot,
  Move,
  Observations,
  ObservedServer,
  Phase,
  RotationPolicy,
  RotationState,
  Straggler,
  WaitReason,
} from '../rotation/state.ts'
import { leafLifetime } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import { encodePem, pemSha256 } from '../trust/pem.ts'
import { scheduleOf } from '../wire/bundle.ts'
import type { Order } from '../wire/requests.ts'
import type { AgentStatus } from '../wire/status.ts'
import type { Facts } from './facts.ts'
import type { Finding } from './findings.ts'
import { STANDS_STILL } from './nodes.ts'

export interface PlanInput {
  readonly state: RotationState
  readonly seen: Observations
  readonly policy: RotationPolicy
  readonly order: Order
  readonly now: Instant
  /** Names of agents that would not follow by themselves. */
  readonly stands: ReadonlySet<string>
  /** Is this listener of a server seen to work now? */
  readonly works: (server: string, address: string) => boolean
}

export type PlanStep =
  | {
      readonly kind: 'make'
      readonly what: 'authority' | 'root'
      readonly name: string
      readonly under: string | null
    }
  | {
      readonly kind: 'move'
      readonly move: Move
      readonly phase: Phase
      readonly epoch: number
      readonly reason: string
    }
  | {
      readonly kind: 'wait'
      readonly phase: Phase
      readonly reason: WaitReason
      /** Everybody who has something to do in this step. */
      readonly for: readonly string[]
      /** Who would not do it as things are, and what would be missing then. */
      readonly holds: readonly Straggler[]
    }

export interface Plan {
  /** done: nobody would be waited for in vain. holds: somebody would. refused: the order is not taken now. */
  readonly outcome: 'done' | 'holds' | 'refused'
  /** Why it is refused; null otherwise. */
  readonly refused: string | null
  readonly steps: readonly PlanStep[]
  /** When a hold would end without the stragglers; null when nothing holds. */
  readonly goesOnAt: string | null
  /** A server is first, and the others, services too, wait for its proof. */
  readonly order: { readonly servers: readonly string[]; readonly others: readonly string[] }
}

/** More turns than the longest rotation has. */
const MAX_TURNS = 40
/** How often time alone may pass: a phase lasts a moment, an epoch begins. What waits longer than that holds. */
const MAX_WAITS = 4

/** From what was found: who stands still, and which listeners work. Null when the key store can not be opened. */
export function planFor(facts: Facts, findings: readonly Finding[], order: Order, now: Instant): Plan | null {
  if (facts.keys.problem !== null) return null
  const { state, seen, policy, listeners } = facts
  const stands = findings.flatMap(({ id, subject }) => (STANDS_STILL.has(id) ? [subject.name] : []))
  const working = new Set(
    listeners
      .filter(({ unreachable, untrusted, refused }) =>
        [unreachable, untrusted, refused].every((why) => why === null),
      )
      .map(({ server, address }) => `${server} ${address}`),
  )
  const works = (server: string, address: string): boolean => working.has(`${server} ${address}`)
  return planRotation({ state, seen, policy, order, now, stands: new Set(stands), works })
}

/** Throws as `advance` does, but for the refusal of the order. */
export function planRotation(input: PlanInput): Plan {
  const { seen, now } = input
  const nodes = orderOf(seen)
  let state: RotationState
  try {
    state = applyOrder(input.state, input.order, now, seen)
  } catch (cause) {
    if (!RotorError.is(cause) || cause.code !== 'ERR_ORDER_REFUSED') throw cause
    return { outcome: 'refused', refused: cause.message, steps: [], goesOnAt: null, order: nodes }
  }
  const world = new World(input, seen, now)
  const steps: PlanStep[] = []
  let waits = 0
  for (let turn = 0; turn < MAX_TURNS; turn++) {
    if (state.phase === 'steady' && state.order === null)
      return { outcome: 'done', refused: null, steps, goesOnAt: null, order: nodes }
    const decision = advance(state, world.seen, input.policy, world.now)
    if (decision.kind === 'move') {
      state = decision.to
      steps.push({
        kind: 'move',
        move: decision.move,
        phase: state.phase,
        epoch: 'next' in state ? state.next : state.active,
        reason: decision.reason,
      })
      continue
    }
    const made = decision.effects.flatMap((effect) => world.perform(effect))
    steps.push(...made)
    if (made.length > 0 || decision.effects.some(({ kind }) => kind === 'publish-bundle')) continue
    const next = waitingStep(world, state, decision, input.policy)
    steps.push(next)
    const { holds } = next
    if (holds.length === 0 && next.for.length > 0) continue
    const s = situation(state, world.seen, input.policy, world.now)
    const until = holds.length > 0 ? passOverAt(s) : decision.until
    const forced = state.order?.force === true
    waits += 1
    if (until === null || (holds.length > 0 && !forced) || until <= world.now || waits > MAX_WAITS) {
      const goesOnAt = until === null ? null : formatInstant(until)
      return { outcome: 'holds', refused: null, steps, goesOnAt, order: nodes }
    }
    world.now = until
  }
  throw new RotorError('ERR_INTERNAL', `the plan of a rotation has no end after ${MAX_TURNS} turns`)
}

/** Lets everybody follow who can, and asks again who is missing. */
function waitingStep(
  world: World,
  state: RotationState,
  decision: Extract<Decision, { kind: 'wait' }>,
  policy: RotationPolicy,
): Extract<PlanStep, { kind: 'wait' }> {
  const { phase } = state
  const asked = [...new Set(decision.waitingFor.map(({ name }) => name))]
  const step = { kind: 'wait', phase, reason: decision.reason, for: asked } as const
  if (asked.length === 0) return { ...step, holds: [] }
  world.follow(state)
  const after = advance(state, world.seen, policy, world.now)
  // the waivers of a forced move are told by its own step
  const holds = after.kind === 'wait' ? after.waitingFor : []
  return { ...step, holds }
}

function orderOf({ agents, servers }: Observations): Plan['order'] {
  const beside = servers.flatMap(({ agent }) => agent ?? [])
  return { servers: beside, others: agents.map(({ name }) => name).filter((name) => !beside.includes(name)) }
}

/** What would be seen, if all went as well as it can. */
class World {
  seen: Observations
  now: Instant
  readonly #input: PlanInput

  constructor(input: PlanInput, seen: Observations, now: Instant) {
    this.#input = input
    this.seen = seen
    this.now = now
  }

  perform(effect: Effect): PlanStep[] {
    switch (effect.kind) {
      case 'publish-bundle':
        this.seen = { ...this.seen, published: effect.version }
        return []
      case 'create-authority': {
        const authority = imagined(effect)
        const signedBy = { ...this.seen.signedBy, [authority.sha256]: effect.root }
        this.seen = { ...this.seen, held: [...this.seen.held, authority], signedBy }
        return [{ kind: 'make', what: 'authority', name: `epoch ${effect.epoch}`, under: effect.root }]
      }
      case 'create-root': {
        const root = imaginedRoot(effect)
        this.seen = { ...this.seen, roots: [...this.seen.roots, root] }
        return [{ kind: 'make', what: 'root', name: `root ${effect.number}`, under: null }]
      }
      case 'probe-servers':
      case 'prove-distrust':
      case 'kick-connections':
      case 'delete-authority':
      case 'delete-root':
      // a change of the signer of bundles goes beside a rotation
      case 'create-signer':
      case 'delete-signer':
        return []
    }
  }

  follow(state: RotationState): void {
    const { stands, works } = this.#input
    const bundle = bundleOf(state)
    const schedule = scheduleOf(bundle)
    const agents = this.seen.agents.map(({ name, status }) => {
      if (status === null || stands.has(name)) return { name, status }
      const notAfter = formatInstant(this.now + leafLifetime(schedule))
      const followed: AgentStatus = {
        ...status,
        version: state.version,
        digest: state.digest,
        state: 'applied',
        step: 'idle',
        leaf: { ...status.leaf, issuerEpoch: state.active, notAfter },
        lastError: null,
      }
      return { name, status: followed }
    })
    const epochs = bundle.authorities.map(({ epoch }) => epoch)
    const servers = this.seen.servers.map(
      (server): ObservedServer => ({
        ...server,
        listeners: server.listeners.map((listener) => {
          const proven = works(server.name, listener.address) && !stands.has(server.agent ?? '')
          const proof = { at: this.now, accepts: epochs, serves: state.active, error: null }
          return { ...listener, proof: proven ? proof : null }
        }),
      }),
    )
    this.seen = { ...this.seen, agents, servers }
  }
}

type Created<K extends Effect['kind']> = Extract<Effect, { kind: K }>

const imagined = ({ epoch, notBefore, notAfter }: Created<'create-authority'>): HeldAuthority => ({
  epoch,
  ...standIn(`authority of epoch ${epoch}`),
  notBefore,
  notAfter,
})

const imaginedRoot = ({ number, notBefore, notAfter }: Created<'create-root'>): HeldRoot => ({
  number,
  ...standIn(`root ${number}`),
  notBefore,
  notAfter,
})

/** In the place of a certificate that is not made. The decision compares fingerprints, and reads no certificate. */
function standIn(what: string): Pick<HeldAuthority, 'certificate' | 'sha256'> {
  const certificate = encodePem('CERTIFICATE', Buffer.from(`stands for the ${what}`))
  return { certificate, sha256: pemSha256(certificate, what, 'ERR_INTERNAL') }
}
