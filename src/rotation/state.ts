/**
 * The rotation of one domain as a value.
 *
 *              prepare                    activate                     converge
 *   steady ----------------> distributing ----------> converging ----------------> steady
 *     ^  |  next is trusted       |        next signs      |   everyone re-issued    (retire: an authority that
 *     |  +--- retire ---+         |                        |                          nobody needs leaves trust,
 *     +-----------------+         +-- withdraw --> withdrawing --> steady              with any of the moves)
 *
 *   steady -- introduce --> introducing -- converge --> steady, and then the ordered rotation: a new root
 *
 *   converging or steady -- rollback --> converging: an earlier authority signs again, and nodes move back to it
 *
 * `refresh`, `retire`, `taint`, `introduce-signer` and `retire-signer` publish without leaving the phase, `distrust` does neither. `restart` (from steady or
 * distributing to converging) begins again with a new authority when the signing one has ended and nothing is left to keep.
 *
 * "Stuck" is no state: it is a decision to wait that names whom it waits for. `SPEC.md` has the invariants.
 */
import { z } from 'zod'
import type { Epoch } from '../schedule.ts'
import type { Instant } from '../time.ts'
import {
  SIGNER_KINDS,
  type SignerKey,
  type SignerKind,
  sha256Hex,
  toldMove,
  toldOrder,
} from '../wire/bundle.ts'
import { order } from '../wire/requests.ts'
import type { AgentStatus } from '../wire/status.ts'

const waiver = z.object({
  /** Who was passed over, by name of agent or server. */
  names: z.array(z.string()),
  /** Why it was allowed: the operator's words, or that the signing authority was about to end. */
  reason: z.string(),
  at: z.number(),
})

const words = { by: z.string(), reason: z.string(), at: z.number() }

/** An authority that is not to be relied on: its key may be in other hands. */
const taint = z.object({
  ...words,
  /** SHA-256 of its certificate. */
  sha256: sha256Hex,
  /** SHA-256 of the leaves of it that nodes were known to hold: with no other one a node may ask for its next leaf. */
  leaves: z.array(sha256Hex),
  /** When, and with which version, it left trust, and who stood on it then; null while it is trusted. */
  removed: z.object({ at: z.number(), version: z.int().positive(), cutOff: z.array(z.string()) }).nullable(),
})

/** A change of the key that signs bundles. */
const signerChange = z.object({
  ...words,
  /** Of the new key. */
  kind: z.enum(SIGNER_KINDS),
  /** Go on without agents that do not follow. */
  force: z.boolean(),
  /** The new one is to leave again. */
  withdrawn: z.boolean(),
  /** When, and with which version, bundles began to name both; null while the key is not there. */
  introduced: z.object({ at: z.number(), version: z.int().positive() }).nullable(),
})

/** What happened since the newest bundle: the next one tells it. */
const pending = z.object({
  orders: z.array(toldOrder),
  moves: z.array(toldMove),
  /** What there was no room for. */
  left: z.int().nonnegative(),
})
export type Pending = z.infer<typeof pending>

const replacement = z.object({ at: z.number(), version: z.int().positive() })

const common = {
  v: z.literal(1),
  domain: z.string(),
  /** Fencing number of the issuer that wrote this; a smaller one may never write after it. */
  fence: z.int().nonnegative(),
  /** The exact payload that must be the newest on the bundle stream. Publishing it is derived from this. */
  payload: z.string(),
  /** SHA-256 of `payload`. */
  digest: sha256Hex,
  version: z.int().positive(),
  /** When this phase began, milliseconds. */
  since: z.number(),
  /** An order that is not finished. */
  order: order.nullable(),
  /** Stragglers the rotation under way went on without. */
  waivers: z.array(waiver),
  /** Version with which this phase began: the one agents must have applied for it to end. A refresh leaves it. */
  phaseVersion: z.int().positive(),
  /** The highest epoch that was ever in a bundle. An epoch is never used for two authorities. */
  newest: z.int(),
  /** For each trusted authority that no longer signs, by epoch: when and with which version it stopped. */
  replaced: z.record(z.string(), replacement),
  /** The highest number of a root that was ever in a bundle; the root of the founding is 1. */
  newestRoot: z.int().positive().default(1),
  /** Authorities that were tainted, by epoch, until it is proven that nobody trusts them any more. */
  tainted: z.record(z.string(), taint).default({}),
  /** Who stopped the rotation, and why. */
  paused: z.object(words).nullable().default(null),
  /** The highest number of a signer that was ever in a bundle; that of the founding is 1. */
  newestSigner: z.int().positive().default(1),
  signer: signerChange.nullable().default(null),
  pending: pending.default({ orders: [], moves: [], left: 0 }),
}

/** Stored in the state bucket, key `rotation`, written by compare-and-set only. */
export const rotationState = z.discriminatedUnion('phase', [
  z.object({ ...common, phase: z.literal('steady'), active: z.int() }),
  /** `next` is in the bundle and does not sign. */
  z.object({ ...common, phase: z.literal('distributing'), active: z.int(), next: z.int() }),
  /** `active` signs since this version; nodes may still hold leaves of `previous`, which is the newer one after a rollback. */
  z.object({ ...common, phase: z.literal('converging'), active: z.int(), previous: z.int() }),
  /** `dropped` left the bundle before it ever signed; agents are forgetting it. */
  z.object({ ...common, phase: z.literal('withdrawing'), active: z.int(), dropped: z.int() }),
  /** The first root of the bundle is new and signs nothing; agents are learning it. */
  z.object({ ...common, phase: z.literal('introducing'), active: z.int() }),
])

export type RotationState = z.infer<typeof rotationState>
export type Phase = RotationState['phase']
export type Waiver = z.infer<typeof waiver>
export type Taint = z.infer<typeof taint>

/** An authority as the issuer's key store holds it. */
export interface HeldAuthority {
  readonly epoch: Epoch
  /** PEM, one certificate. */
  readonly certificate: string
  readonly sha256: string
  readonly notBefore: Instant
  readonly notAfter: Instant
}

/** A root as the issuer's key store holds it. */
export interface HeldRoot {
  /** 1 for the root of the founding; each new one has the next. */
  readonly number: number
  /** PEM, one certificate, as `encodePem` writes it. */
  readonly certificate: string
  readonly sha256: string
  readonly notBefore: Instant
  readonly notAfter: Instant
}

/** A signer of bundles as the issuer's key store holds it. */
export interface HeldSigner {
  /** 1 for the one of the founding; each new one has the next. */
  readonly number: number
  readonly kind: SignerKind
  readonly key: SignerKey
  /** The word of a signer of the bundle for one that is not in it (src/bundle/succession.ts); null without. */
  readonly vouched: string | null
}

/** The TLS listeners of a nats-server. */
export const LISTENER_KINDS = [
  'client',
  'cluster',
  'gateway',
  'leafnode',
  'websocket',
  'mqtt',
  'monitoring',
] as const
export type ListenerKind = (typeof LISTENER_KINDS)[number]

export interface ObservedListener {
  readonly kind: ListenerKind
  readonly address: string
  /**
   * What real handshakes showed since the phase began; null when none was made.
   * `accepts`: epochs whose leaf the listener took. `serves`: epoch of the authority that issued its leaf.
   */
  readonly proof: {
    readonly at: Instant
    readonly accepts: readonly Epoch[]
    readonly serves: Epoch | null
    /** The epoch whose leaf it refused in the last handshake, and since when it did so each time; absent when it took it. */
    readonly refuses?: { readonly epoch: Epoch; readonly since: Instant } | undefined
    readonly error: string | null
  } | null
}

export interface ObservedServer {
  readonly name: string
  /** Agent beside it; null is a finding, and the server can never be proven. */
  readonly agent: string | null
  readonly listeners: readonly ObservedListener[]
}

/** A connection that stands on an authority, for people. */
export interface ConnectionExample {
  readonly kind: string
  readonly name: string
  readonly user: string
  readonly server: string
  readonly cid: number
  readonly address: string
  readonly since: string | null
  /** How we know: see `Evidence` in census.ts. */
  readonly by: string
  /** False when it may stand on another authority as well. */
  readonly certain: boolean
}

/** The census: who was connected to the servers at one time, by the authority it stood on. */
export interface ObservedConnections {
  /** When the count began; 0 before the first one. */
  readonly at: Instant
  /** Why it is not complete, in words; null when every server answered in full. */
  readonly problem: string | null
  /** Oldest first; epochs nobody stands on are left out. */
  readonly standing: readonly {
    readonly epoch: Epoch
    /** Connections that stand on this one for certain, and those that may. */
    readonly certain: number
    readonly possible: number
    /** At most five. */
    readonly examples: readonly ConnectionExample[]
  }[]
  /** Connections whose certificate is of no authority of the bundle, and of none that is still to be proven gone. */
  readonly foreign: { readonly count: number; readonly examples: readonly ConnectionExample[] }
}

/** All that `advance` may know of the world. Gathered by the issuer; no I/O is behind it. */
export interface Observations {
  /** Authorities with a key in the store. */
  readonly held: readonly HeldAuthority[]
  /** Roots with a key in the store. */
  readonly roots: readonly HeldRoot[]
  /** Signers of bundles with a key in the store. Absent where nobody looks. */
  readonly signers?: readonly HeldSigner[]
  /** Which root signed which authority, held or trusted: SHA-256 to SHA-256. */
  readonly signedBy: Readonly<Record<string, string>>
  /** Version of the newest bundle on the stream; 0 when there is none. */
  readonly published: number
  /** Every agent registered in the domain and not marked gone; status null when it never reported. */
  readonly agents: readonly { readonly name: string; readonly status: AgentStatus | null }[]
  /** Every server in the configuration or found by $SYS.REQ.SERVER.PING. */
  readonly servers: readonly ObservedServer[]
  /** Absent where nobody counts. */
  readonly connections?: ObservedConnections
  /** Absent where nobody looks. */
  readonly own?: OwnLeaf
}

/**
 * The leaf of the issuer that decides, as it holds it. What nodes report comes over NATS, where who has the key of an
 * authority can speak for any of them; this can not be forged.
 */
export interface OwnLeaf {
  readonly name: string
  /** Null for a leaf that something else wrote. */
  readonly epoch: Epoch | null
  readonly notAfter: Instant
}

/** Things to do, as data. Each may be done twice without harm. */
export type Effect =
  /** Make key and certificate for this epoch, unless the store has them. */
  | {
      readonly kind: 'create-authority'
      readonly epoch: Epoch
      readonly notBefore: Instant
      readonly notAfter: Instant
      /** SHA-256 of the root that is to sign it. */
      readonly root: string
    }
  /** Make the key of a root of its own, unless the store has this number. */
  | {
      readonly kind: 'create-root'
      readonly number: number
      readonly notBefore: Instant
      readonly notAfter: Instant
      /** With which root, by SHA-256, they sign each other's key, and until when; null for not at all. */
      readonly cross: { readonly root: string; readonly notAfter: Instant } | null
    }
  /** Put the payload of the state on the stream, unless it is there. */
  | { readonly kind: 'publish-bundle'; readonly version: number }
  /** Dial the listeners of these servers with a leaf of this authority, and see which one is served. */
  | { readonly kind: 'probe-servers'; readonly epoch: Epoch; readonly servers: readonly string[] }
  /** Dial these servers with a leaf of this authority: they have to refuse it. */
  | { readonly kind: 'prove-distrust'; readonly epoch: Epoch; readonly servers: readonly string[] }
  /** End what is connected with a leaf of this authority: a server never looks again at one it has taken. */
  | { readonly kind: 'kick-connections'; readonly epoch: Epoch }
  /** Delete the key of an authority that left the bundle. */
  | { readonly kind: 'delete-authority'; readonly epoch: Epoch }
  /** Delete the key of a root that left the bundle. */
  | { readonly kind: 'delete-root'; readonly number: number }
  /** Make the key of a signer of bundles, unless the store has this number. */
  | { readonly kind: 'create-signer'; readonly number: number; readonly signer: SignerKind }
  /** Delete the key of a signer that left the bundle. */
  | { readonly kind: 'delete-signer'; readonly number: number }

/**
 * converge ends converging, withdrawing and introducing. refresh publishes the same content again before the bundle gets too old.
 * taint says in the bundle that an authority is tainted; distrust: it is proven that nobody trusts it. restart: see the diagram.
 * introduce-signer and retire-signer: see signers.ts.
 */
export type Move =
  | 'prepare'
  | 'activate'
  | 'converge'
  | 'retire'
  | 'withdraw'
  | 'refresh'
  | 'restart'
  | 'introduce'
  | 'rollback'
  | 'taint'
  | 'distrust'
  | 'introduce-signer'
  | 'retire-signer'

/** Why a rotation waits. */
export type WaitReason =
  | 'not-due'
  | 'authority-not-created'
  | 'not-published'
  | 'epoch-not-started'
  | 'agents-do-not-trust'
  | 'servers-not-proven'
  | 'agents-not-reissued'
  | 'servers-not-reissued'
  | 'agents-still-trust'
  | 'authority-still-needed'
  | 'root-not-created'
  | 'agents-do-not-know-root'
  | 'tainted-still-trusted'
  | 'paused'
  | 'signer-not-created'
  | 'agents-do-not-know-signer'

/** One node a rotation waits for, and what is missing, in words. */
export interface Straggler {
  readonly name: string
  readonly kind: 'agent' | 'server' | 'connection'
  readonly missing: string
}

export type Decision =
  | {
      readonly kind: 'wait'
      readonly reason: WaitReason
      readonly waitingFor: readonly Straggler[]
      /** When time alone can change the answer. */
      readonly until: Instant | null
      readonly effects: readonly Effect[]
    }
  | {
      readonly kind: 'move'
      readonly move: Move
      readonly to: RotationState
      /** For people: what happens and why; also the `reason` of the bundle where one is published. */
      readonly reason: string
      readonly effects: readonly Effect[]
    }

export interface RotationPolicy {
  /** The signer's remaining life below which a rotation goes on without stragglers. @default 1.5 x epochDuration */
  readonly goOnBelow?: number | undefined
  /**
   * How long an authority stays in trust after its successor is active; evidence is asked for in any case.
   * @default until `lead` before the end of its window
   */
  readonly retireAfter?: number | undefined
  /**
   * How long a phase lasts at least before stragglers are passed over, by force or not: healthy nodes get this
   * long to follow. @default lead
   */
  readonly patience?: number | undefined
  /**
   * required: no authority leaves trust while the connections can not be counted. optional: then the evidence of agents
   * and servers is enough, and the bundle says so. @default 'optional'
   */
  readonly census?: 'required' | 'optional' | undefined
  /**
   * How long a tainted authority may stay in use or in trust for the sake of nodes that do not follow, in each phase.
   * @default lead, a minute at most
   */
  readonly taintPatience?: number | undefined
  /** A rotation that more nodes than this refuse is taken back. @default no server, 5 % of all other agents */
  readonly maxFailures?: FailureBudget | undefined
}

export interface FailureBudget {
  /** Number of servers. */
  readonly servers: number
  /** Part of the agents that are no servers, 0 to 1. */
  readonly clients: number
}
