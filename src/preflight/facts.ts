/** What a preflight judges: plain values, gathered before. What could not be seen is null and has a line in `notSeen`. */
import type { Observations, RotationPolicy, RotationState, Straggler } from '../rotation/state.ts'
import type { Duration, Instant } from '../time.ts'

export interface Facts {
  /** As it is stored. */
  readonly state: RotationState
  /** What `advance` would be told, without proofs of servers. */
  readonly seen: Observations
  readonly policy: RotationPolicy
  readonly issuer: IssuerFacts
  /** Every agent of the domain, beside what `seen.agents` tells of it. */
  readonly nodes: readonly NodeFacts[]
  /** By name; null when nobody answered the question who is there. */
  readonly servers: readonly ServerFacts[] | null
  readonly listeners: readonly ListenerFacts[]
  /** Why no second connection of the issuer was taken; null when it was. */
  readonly secondConnection: string | null
  readonly streams: readonly StreamFacts[]
  readonly keys: KeyFacts
  /** End of each root of the bundle, by SHA-256. */
  readonly rootEnds: Readonly<Record<string, Instant>>
  readonly notSeen: readonly { readonly what: string; readonly why: string }[]
}

export interface IssuerFacts {
  /** The lease; null before the first issuer led. `holder` null: it was given back. */
  readonly lease: {
    readonly holder: string | null
    /** When it was renewed, by the clock of the holder. */
    readonly at: Instant
    readonly duration: Duration
  } | null
  readonly problem: { readonly code: string; readonly message: string; readonly since: string } | null
  /** Whom the rotation under way waits for. */
  readonly waitingFor: readonly Straggler[]
}

export interface NodeFacts {
  readonly name: string
  readonly role: 'server' | 'service' | 'issuer'
  /** The longest its certificates live. */
  readonly lifetime: Duration
  /** Its control connection is there; null when not all connections were counted. */
  readonly connected: boolean | null
}

export interface ServerFacts {
  readonly name: string
  readonly version: string
  /** Clients now, and the most it takes; null when the server was not asked. */
  readonly connections: { readonly now: number; readonly max: number } | null
  /** Users have JWTs (operator mode). */
  readonly operatorMode: boolean
  /** Other servers dial it or are dialled by it. */
  readonly links: readonly ('cluster' | 'gateway' | 'leafnode')[]
}

export interface ListenerFacts {
  readonly server: string
  readonly kind: string
  readonly address: string
  /** Why it could not be dialled; null when it could. */
  readonly unreachable: string | null
  /** Why its certificate does not verify; null when it does. */
  readonly untrusted: string | null
  /** Why it refused the issuer's certificate; null when it took it. */
  readonly refused: string | null
  /** Its certificate is for clients, too; null when none was seen. */
  readonly forClients: boolean | null
}

export interface StreamFacts {
  /** `ACCOUNT/STREAM` */
  readonly name: string
  readonly storage: string
  readonly replicas: number
  readonly consumers: readonly ConsumerFacts[]
}

export interface ConsumerFacts {
  readonly name: string
  readonly durable: boolean
  readonly push: boolean
  readonly flowControl: boolean
  /** `none`, `all` or `explicit`. */
  readonly ackPolicy: string
  readonly ackWait: Duration
  /** -1: as often as it takes. */
  readonly maxDeliver: number
  /** 0: the default of the server, none for a durable one. */
  readonly inactiveThreshold: Duration
}

export interface KeyFacts {
  /** Why the store can not be opened or asked; null when it can. */
  readonly problem: string | null
  /** What is wrong with the kept bundles; null when they are a whole chain up to the newest one. */
  readonly history: string | null
  /** Files of keys that others than their owner may read: `path (mode 644)`. */
  readonly readable: readonly { readonly file: string; readonly mode: number }[]
  /** Of the file systems with keys and identities on this machine. */
  readonly disks: readonly { readonly dir: string; readonly free: number }[]
}
