/** Signing requests of agents: proven by the current leaf key, judged by the policy, answered with a chain. */
import type { Msg } from '@nats-io/transport-node'
import type { AgentEntry } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import type { Epoch } from '../../src/schedule.ts'
import { type Clock, type Duration, formatInstant, type Instant } from '../../src/time.ts'
import { type Certificate, parseCertificate } from '../../src/trust/certificate.ts'
import { issuerAmong } from '../../src/trust/chain.ts'
import { parseCsr } from '../../src/trust/csr.ts'
import { MAX_PROOF_BYTES, openProof } from '../../src/trust/proof.ts'
import { type BundlePayload, scheduleOf } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { encodeRecord } from '../../src/wire/record.ts'
import { SIGN_TIMEOUT, type SignAnswer } from '../../src/wire/requests.ts'
import type { Authority, LeafRequest } from '../authority/authority.ts'
import { SigningLine } from './line.ts'
import { leafFor } from './policy.ts'

/** Who got no leaf by then is told when to come back, before it stops to wait for an answer. */
const ANSWER_WITHIN: Duration = SIGN_TIMEOUT - 1_000
/** How long a leaf that came too late is kept for the agent that asks again for the same. */
const KEEP_LATE: Duration = 60_000

/** How soon to ask again for a leaf while the tainted authority is being replaced. */
const UNTIL_NEXT: Duration = 500

export interface SigningOptions {
  readonly names: DomainNames
  /** The policy of an agent. Throws ERR_SIGN_REFUSED for one we do not know, ERR_AGENT_REMOVED. */
  readonly entryOf: (agent: string) => AgentEntry
  readonly authority: Authority
  readonly clock: Clock
  readonly logger: Logger
  /** The bundle that is in force; null until the issuer has read its state. Its answer is not older than a lease. */
  readonly bundle: () => BundlePayload | null | Promise<BundlePayload | null>
  /** Authorities that were tainted, by epoch; asked after `bundle`. */
  readonly tainted: () => RotationState['tainted']
}

/** A leaf that is being made or was not fetched yet. */
interface Made {
  /** What it was asked for: epoch, key and what the policy gave. */
  readonly of: string
  readonly chain: Promise<string>
  readonly begun: Instant
}

export class Signing {
  readonly #options: SigningOptions
  readonly #line: SigningLine
  /** By agent. */
  readonly #made = new Map<string, Made>()
  /** SHA-256 of the public keys of the last leaf that we signed and of the one before, by agent. */
  readonly #lastKeys = new Map<string, readonly string[]>()
  #anchors: { readonly bundle: BundlePayload; readonly certificates: readonly Certificate[] } | null = null

  constructor(options: SigningOptions) {
    this.#options = options
    this.#line = new SigningLine({ clock: options.clock })
  }

  /** Answers one request message, in time; never throws. Returns when nothing is done for it any more. */
  async handle(message: Pick<Msg, 'subject' | 'data' | 'respond'>): Promise<void> {
    const agent = message.subject.split('.').at(-1) ?? ''
    let answered = false
    const respond = (answer: SignAnswer): void => {
      if (!answered) message.respond(encodeRecord(answer))
      answered = true
    }
    const refuse = (cause: unknown): void => {
      if (answered) return
      const error = RotorError.from(cause)
      const fields = { code: error.code, agent, err: error.message }
      // in a wave there are hundreds, and nothing is wrong
      if (error.code === 'ERR_SIGN_BUSY')
        this.#options.logger.debug(fields, 'an agent was asked to come back')
      else this.#options.logger.warn(fields, 'a signing request was refused')
      respond(this.#refusal(error))
    }
    const late = setTimeout(() => refuse(this.#line.sentAway(agent)), ANSWER_WITHIN)
    try {
      const entry = this.#entryOf(agent, message.data)
      const work = async () => (answered ? null : this.#answer(entry, message.data))
      const answer = await this.#line.enter(agent, work)
      if (answer === null) return
      if (!answered) this.#made.delete(agent)
      respond(answer)
    } catch (cause) {
      refuse(cause)
    } finally {
      clearTimeout(late)
    }
  }

  /** What is judged before a request may wait, so that only agents of the domain can have something waiting. */
  #entryOf(agent: string, proof: Uint8Array): AgentEntry {
    const entry = this.#options.entryOf(agent)
    if (proof.byteLength > MAX_PROOF_BYTES) {
      throw new RotorError(
        'ERR_SIGN_MALFORMED',
        `expected at most ${MAX_PROOF_BYTES} bytes, found ${proof.byteLength}`,
      )
    }
    return entry
  }

  async #answer(entry: AgentEntry, proof: Uint8Array): Promise<SignAnswer> {
    const { names, clock } = this.#options
    const agent = entry.name
    const bundle = await this.#options.bundle()
    if (bundle === null) throw new RotorError('ERR_SIGN_BUSY', 'the issuer is starting')
    const tainted = this.#options.tainted()
    if (tainted[bundle.epoch] !== undefined) {
      throw new RotorError(
        'ERR_SIGN_BUSY',
        `epoch ${bundle.epoch} is tainted and signs no more; the next one is on its way`,
        { details: { retryAfter: UNTIL_NEXT } },
      )
    }
    const now = clock.now()
    const schedule = scheduleOf(bundle)
    const { claims, leaf } = await openProof(proof, this.#trusted(bundle), now, schedule.lead)
    if (claims.domain !== names.domain || claims.agent !== agent) {
      throw new RotorError('ERR_SIGN_PROOF', 'the claims are for another domain or agent than the subject')
    }
    if (!leaf.names.uri.includes(names.spiffeId(agent))) {
      throw new RotorError('ERR_SIGN_PROOF', `the leaf is not of ${agent}`)
    }
    this.#assertKnown(agent, leaf, bundle, tainted)
    if (Math.abs(Date.parse(claims.at) - now) > schedule.validity) {
      throw new RotorError('ERR_SIGN_PROOF', 'the request is too old, or a clock is far off')
    }
    const csr = await parseCsr(claims.csr)
    const request = leafFor(csr, entry, names.spiffeId(agent), schedule, now)
    if (csr.spkiSha256 === leaf.spkiSha256)
      throw new RotorError('ERR_SIGN_REFUSED', 'expected a new key, found that of the current leaf')
    const chain = await this.#sign(bundle.epoch, request)
    // a leaf that is put back leaves the one before in use
    this.#lastKeys.set(agent, [leaf.spkiSha256, csr.spkiSha256])
    return { ok: true, epoch: bundle.epoch, chain, serverTime: formatInstant(clock.now()) }
  }

  /**
   * Whoever has the key of a tainted authority can make a leaf in the name of any agent. So such a leaf proves nothing
   * unless we know that the node had it: its status had it when the taint was ordered, or it is one of the last two.
   */
  #assertKnown(
    agent: string,
    leaf: Certificate,
    bundle: BundlePayload,
    tainted: RotationState['tainted'],
  ): void {
    const issuer = issuerAmong(leaf, this.#trusted(bundle))
    const epoch = bundle.authorities.find(({ sha256 }) => sha256 === issuer?.sha256)?.epoch
    const taint = epoch === undefined ? undefined : tainted[epoch]
    if (taint === undefined) return
    const ours = this.#lastKeys.get(agent)?.includes(leaf.spkiSha256) === true
    if (ours || taint.leaves.includes(leaf.sha256)) return
    throw new RotorError(
      'ERR_SIGN_PROOF',
      `the leaf ${leaf.sha256} is of epoch ${epoch}, which is tainted, and is none that ${agent} was known to hold; remove its identity and let it join again`,
    )
  }

  /** Signs once: an agent that came back for a leaf that was late gets that one. */
  #sign(epoch: Epoch, request: LeafRequest): Promise<string> {
    const { authority, clock } = this.#options
    const agent = request.commonName
    const of = JSON.stringify([epoch, request.csr.spkiSha256, request.names, request.usages])
    const known = this.#made.get(agent)
    if (known?.of === of && clock.now() - known.begun < KEEP_LATE) return known.chain
    const made: Made = { of, chain: authority.sign(epoch, request), begun: clock.now() }
    this.#made.set(agent, made)
    made.chain.catch(() => {
      if (this.#made.get(agent) === made) this.#made.delete(agent)
    })
    return made.chain
  }

  #trusted(bundle: BundlePayload): readonly Certificate[] {
    if (this.#anchors?.bundle !== bundle) {
      const certificates = bundle.authorities.map((a) =>
        parseCertificate(a.certificate, `authority of epoch ${a.epoch}`),
      )
      this.#anchors = { bundle, certificates }
    }
    return this.#anchors.certificates
  }

  #refusal({ code, message, details }: RotorError): SignAnswer {
    const { retryAfter } = details
    return {
      ok: false,
      code,
      message,
      ...(typeof retryAfter === 'number' ? { retryAfter } : {}),
      serverTime: formatInstant(this.#options.clock.now()),
    }
  }
}
