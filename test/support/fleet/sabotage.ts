/** Deliberate faults in the decisions, each one that a real system had: a simulation that can not find them proves nothing. */
import { Lease } from '../../../issuer/lease/lease.ts'
import { encodePayload, payloadDigest } from '../../../src/bundle/payload.ts'
import type { AcceptedState } from '../../../src/identity/state.ts'
import type { advance } from '../../../src/rotation/advance.ts'
import type { Decision, Observations, RotationState } from '../../../src/rotation/state.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import type { AgentStatus } from '../../../src/wire/status.ts'
import type { Sabotage } from './options.ts'

type Decide = typeof advance
type Seen = Observations['agents']

/** The same decision on other observations. */
const seeing =
  (change: (seen: Observations, state: RotationState) => Observations) =>
  (decide: Decide): Decide =>
  (state, seen, policy, now) =>
    decide(state, change(seen, state), policy, now)

/** Another decision on the same observations. */
const answering =
  (change: (decision: Decision, state: RotationState) => Decision) =>
  (decide: Decide): Decide =>
  (state, seen, policy, now) =>
    change(decide(state, seen, policy, now), state)

const reporting = (agents: Seen, change: (status: AgentStatus) => AgentStatus): Seen =>
  agents.map(({ name, status }) => ({ name, status: status === null ? null : change(status) }))

export interface PlantedFault {
  readonly sabotage: Sabotage
  /** Which promise it breaks. */
  readonly breaks: readonly string[]
}

export const FAULTS: Readonly<Record<string, PlantedFault>> = {
  'every other agent is not waited for before the next authority signs': {
    breaks: ['I1', 'I2'],
    sabotage: {
      decide: seeing((seen, { phase }) =>
        phase === 'distributing' ? { ...seen, agents: seen.agents.filter((_, i) => i % 2 === 0) } : seen,
      ),
    },
  },
  'the next authority signs before anybody trusts it': {
    breaks: ['I1'],
    sabotage: {
      decide: seeing((seen, { phase }) =>
        phase === 'distributing' ? { ...seen, agents: [], servers: [] } : seen,
      ),
    },
  },
  'who was passed over is not written down': {
    breaks: ['I1'],
    sabotage: {
      decide: answering((decision) =>
        decision.kind === 'move' ? { ...decision, to: { ...decision.to, waivers: [] } } : decision,
      ),
    },
  },
  'an agent believes its target without a look at it': {
    breaks: ['I1', 'I2'],
    sabotage: {
      machine: (machine) => {
        machine.credulous = true
      },
    },
  },
  'an authority leaves trust while leaves and sockets need it': {
    breaks: ['I1', 'I2'],
    sabotage: {
      // at once, so that there is somebody who still needs it
      policy: { retireAfter: 0 },
      decide: seeing((seen, { phase, active, version }) =>
        phase === 'steady'
          ? {
              ...seen,
              servers: [],
              agents: reporting(seen.agents, (status) => ({
                ...status,
                version,
                usage: [],
                configs: [],
                leaf: { ...status.leaf, issuerEpoch: active },
              })),
            }
          : seen,
      ),
    },
  },
  'a tainted authority is called gone before anybody was looked at': {
    breaks: ['S1'],
    sabotage: {
      // so that nobody is cut off, who would be excused
      policy: { taintPatience: 3_600_000 },
      decide: seeing((seen, { phase, tainted }) =>
        phase === 'steady' && Object.values(tainted).some(({ removed }) => removed !== null)
          ? { ...seen, agents: [], servers: [] }
          : seen,
      ),
    },
  },
  'a generation is used before its name is on disk': {
    breaks: ['I3'],
    sabotage: {
      machine: ({ disk }) => {
        disk.forgetful = true
      },
    },
  },
  'the highest accepted version is known in memory only': {
    breaks: ['I4'],
    sabotage: {
      machine: ({ disk }) => {
        const read = disk.readState.bind(disk)
        disk.readState = async () => {
          const state = await read()
          return state?.highest == null ? state : { ...state, highest: { ...state.highest, version: 1 } }
        }
      },
    },
  },
  'a rotation begins while another one is under way': {
    breaks: ['I5'],
    sabotage: {
      decide: (decide) => (state, seen, policy, now) =>
        decide(
          state.phase === 'converging' ? { ...state, phase: 'steady', active: state.active } : state,
          seen,
          policy,
          now,
        ),
    },
  },
  'an issuer writes its state without the revision it has read': {
    breaks: ['I4', 'I6'],
    sabotage: {
      broker: (broker) => {
        broker.careless = true
      },
    },
  },
  'an issuer does not look whether it still leads': {
    breaks: ['I6'],
    sabotage: {
      lease: (lease) => {
        let last: number | null = null
        const real = Object.getOwnPropertyDescriptor(Lease.prototype, 'fence')?.get
        Object.defineProperty(lease, 'fence', { get: () => (last = real?.call(lease) ?? last) })
      },
    },
  },
  'the new signer signs alone before anybody was told of it': {
    breaks: ['K1'],
    sabotage: {
      decide: answering((decision) => {
        if (decision.kind !== 'move' || decision.move !== 'introduce-signer') return decision
        const { succession: _, signers, ...bundle }: BundlePayload = JSON.parse(decision.to.payload)
        const payload = encodePayload({ ...bundle, signers: signers.slice(0, 1) })
        return {
          ...decision,
          to: { ...decision.to, payload, digest: payloadDigest(payload), signer: null },
        }
      }),
    },
  },
  'the old signer leaves before everybody knows the new one': {
    breaks: ['K1'],
    sabotage: {
      // so that there is somebody who does not
      machine: ({ name, disk }) => {
        disk.full = name === 's1'
      },
      decide: seeing((seen, { phase, signer, version, digest }) =>
        phase === 'steady' && signer?.introduced != null
          ? { ...seen, agents: reporting(seen.agents, (status) => ({ ...status, version, digest })) }
          : seen,
      ),
    },
  },
  'bundles do not carry the word of the old signer for the new one': {
    breaks: ['K1'],
    sabotage: {
      decide: answering((decision) => {
        if (decision.kind !== 'move' || decision.move !== 'retire-signer') return decision
        const { succession: _, ...bundle }: BundlePayload = JSON.parse(decision.to.payload)
        const payload = encodePayload(bundle)
        return { ...decision, to: { ...decision.to, payload, digest: payloadDigest(payload) } }
      }),
    },
  },
  'an agent forgets the new signer when it starts again': {
    breaks: ['K1'],
    sabotage: {
      machine: ({ disk }) => {
        let first: AcceptedState['signers'] | null = null
        const read = disk.readState.bind(disk)
        disk.readState = async () => {
          const state = await read()
          first ??= state?.signers ?? null
          return state === null || first === null ? state : { ...state, signers: first }
        }
      },
    },
  },
}
