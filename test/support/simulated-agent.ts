/** An agent of the simulation: what is true on one node, and what it tells of itself. */
import assert from 'node:assert/strict'
import { payloadDigest } from '../../src/bundle/payload.ts'
import { type Epoch, epochEnd } from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { hex, SCHEDULE } from './rotation-world.ts'

export interface SimulatedLeaf {
  readonly epoch: Epoch
  /** SHA-256 of the authority certificate it chains to. */
  readonly issuer: string
  readonly notAfter: Instant
}

/** What is in its trust file: the authorities of its bundle, or the roots. `rootOf`: PEM of the root of an authority. */
export type Anchor = 'authorities' | { readonly rootOf: (authority: string) => string }

/** Who signs for a node that holds this bundle; null when nobody can, or the bundle does not trust the signer. */
export type Sign = (bundle: BundlePayload) => SimulatedLeaf | null

export const readBundle = (text: string): BundlePayload => JSON.parse(text)

/** What an agent looks at before it takes a bundle, as far as time goes. */
export const isAcceptable = (bundle: BundlePayload, now: Instant): boolean =>
  Date.parse(bundle.expiresAt) > now &&
  bundle.authorities.every(({ epoch }) => epochEnd(SCHEDULE, epoch) > now)

export class SimulatedAgent {
  readonly name: string
  readonly #anchor: Anchor
  bundle: BundlePayload
  leaf: SimulatedLeaf
  /** Its sockets stay open when the leaf changes. */
  lingers = false
  /** Leaves that open sockets were made with, other than the present one. */
  standing: SimulatedLeaf[] = []
  frozen = false
  rolledBack = false
  /** Its target takes nothing new. */
  refuses = false
  /** Version that it had to put back. */
  #refused: number | null = null
  #digest: string
  /** What it told, newest last. */
  readonly told: AgentStatus[] = []

  constructor(name: string, text: string, leaf: SimulatedLeaf, anchor: Anchor = 'authorities') {
    this.name = name
    this.#anchor = anchor
    this.bundle = readBundle(text)
    this.leaf = leaf
    this.#digest = payloadDigest(text)
  }

  /** Is an authority with this SHA-256 in its bundle? */
  knows(authority: string): boolean {
    return this.bundle.authorities.some(({ sha256 }) => sha256 === authority)
  }

  /** `issuer`: SHA-256 of an authority. */
  trusts(issuer: string): boolean {
    if (this.#anchor !== 'authorities') return this.bundle.roots.includes(this.#anchor.rootOf(issuer))
    return this.knows(issuer)
  }

  /** Applies a newer bundle, and renews when another authority signs now. */
  follow(text: string, now: Instant, sign: Sign): void {
    const bundle = readBundle(text)
    if (bundle.version <= this.bundle.version || !isAcceptable(bundle, now)) return
    if (this.refuses) {
      this.#refused = bundle.version
      return
    }
    this.#refused = null
    if (bundle.version === this.bundle.version + 1) {
      assert.equal(bundle.previous, this.#digest, 'I4: the chain holds')
    }
    this.bundle = bundle
    this.#digest = payloadDigest(text)
    this.rolledBack = false
    if (this.leaf.epoch !== bundle.epoch) this.renew(sign)
  }

  renew(sign: Sign): void {
    const next = sign(this.bundle)
    if (next === null) return
    if (this.lingers) this.standing.push(this.leaf)
    this.leaf = next
  }

  /** Everything old is closed. */
  letGo(): void {
    this.lingers = false
    this.standing = []
  }

  report(now: Instant): AgentStatus {
    const status: AgentStatus = {
      v: 1,
      agent: this.name,
      role: 'service',
      version: this.bundle.version,
      digest: this.#digest,
      state: this.rolledBack || this.#refused !== null ? 'rolled-back' : 'applied',
      step: 'idle',
      leaf: {
        fingerprint: hex(`${this.name} ${this.leaf.issuer}`),
        issuerEpoch: this.leaf.epoch,
        notAfter: formatInstant(this.leaf.notAfter),
      },
      targets: [],
      configs: [],
      usage: this.standing.map(({ epoch, issuer, notAfter }) => ({
        type: 'connection',
        name: this.name,
        leaf: hex(`${this.name} ${issuer} ${notAfter}`),
        issuerEpoch: epoch,
        sockets: 1,
        since: formatInstant(0),
      })),
      clockOffsetMs: 0,
      clockBoundMs: 0,
      lastError:
        this.#refused === null
          ? null
          : { code: 'ERR_RELOAD_REFUSED', message: 'no', at: formatInstant(now), version: this.#refused },
      started: formatInstant(0),
      at: formatInstant(now),
      software: 'test',
    }
    this.told.push(status)
    return status
  }
}
