/** Signing requests of agents: proven by the current leaf key, judged by the policy, answered with a chain. */
import type { Msg } from '@nats-io/transport-node'
import PQueue from 'p-queue'
import type { AgentEntry } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { leafLifetime } from '../src/schedule.ts'
import { type Clock, formatInstant } from '../src/time.ts'
import { parseCertificate } from '../src/trust/certificate.ts'
import { parseCsr } from '../src/trust/csr.ts'
import { openProof } from '../src/trust/proof.ts'
import { type BundlePayload, scheduleOf } from '../src/wire/bundle.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { encodeRecord } from '../src/wire/record.ts'
import type { SignAnswer } from '../src/wire/requests.ts'
import type { Authority } from './authority/authority.ts'

/** Requests that may wait; more are told to come back. */
const MAX_WAITING = 512
const RETRY_AFTER = 500

export interface SigningOptions {
  readonly names: DomainNames
  readonly agents: readonly AgentEntry[]
  readonly authority: Authority
  readonly clock: Clock
  readonly logger: Logger
  /** The bundle that is in force; null until the issuer has read its state. */
  readonly bundle: () => BundlePayload | null
}

export class Signing {
  readonly #options: SigningOptions
  readonly #queue = new PQueue({ concurrency: 4 })

  constructor(options: SigningOptions) {
    this.#options = options
  }

  /** Answers one request message; never throws. */
  async handle(message: Msg): Promise<void> {
    if (this.#queue.size >= MAX_WAITING) {
      message.respond(
        encodeRecord(this.#refusal(new RotorError('ERR_SIGN_BUSY', 'too many requests wait'), RETRY_AFTER)),
      )
      return
    }
    await this.#queue.add(async () => {
      const agent = message.subject.split('.').at(-1) ?? ''
      try {
        message.respond(encodeRecord(await this.#answer(agent, message.data)))
      } catch (cause) {
        const error = RotorError.from(cause)
        this.#options.logger.warn(
          { code: error.code, agent, err: error.message },
          'a signing request was refused',
        )
        message.respond(encodeRecord(this.#refusal(error)))
      }
    })
  }

  async #answer(agent: string, proof: Uint8Array): Promise<SignAnswer> {
    const { names, authority, clock } = this.#options
    const bundle = this.#options.bundle()
    if (bundle === null) throw new RotorError('ERR_SIGN_BUSY', 'the issuer is starting')
    const now = clock.now()
    const schedule = scheduleOf(bundle)
    const anchors = bundle.authorities
      .filter((a) => a.status !== 'tainted')
      .map((a) => parseCertificate(a.certificate, `authority of epoch ${a.epoch}`))
    const { claims, leaf } = await openProof(proof, anchors, now, schedule.lead)
    const entry = this.#options.agents.find((a) => a.name === agent)
    if (entry === undefined) throw new RotorError('ERR_SIGN_REFUSED', 'this agent is not registered')
    if (claims.domain !== names.domain || claims.agent !== agent) {
      throw new RotorError('ERR_SIGN_PROOF', 'the claims are for another domain or agent than the subject')
    }
    if (!leaf.names.uri.includes(names.spiffeId(agent))) {
      throw new RotorError('ERR_SIGN_PROOF', `the leaf is not of ${agent}`)
    }
    if (Math.abs(Date.parse(claims.at) - now) > schedule.validity) {
      throw new RotorError('ERR_SIGN_PROOF', 'the request is too old, or a clock is far off')
    }
    const csr = await parseCsr(claims.csr)
    assertNames(csr.names, entry, names.spiffeId(agent))
    if (csr.spkiSha256 === leaf.spkiSha256)
      throw new RotorError('ERR_SIGN_REFUSED', 'expected a new key, found that of the current leaf')
    const chain = await authority.sign(bundle.epoch, {
      csr,
      commonName: agent,
      names: { dns: entry.names.dns, ip: entry.names.ip, uri: [names.spiffeId(agent)] },
      notBefore: now - schedule.lead,
      notAfter: now + leafLifetime(schedule),
    })
    return { ok: true, epoch: bundle.epoch, chain, serverTime: formatInstant(clock.now()) }
  }

  #refusal(error: RotorError, retryAfter?: number): SignAnswer {
    return {
      ok: false,
      code: error.code,
      message: error.message,
      ...(retryAfter === undefined ? {} : { retryAfter }),
      serverTime: formatInstant(this.#options.clock.now()),
    }
  }
}

type Names = {
  readonly dns: readonly string[]
  readonly ip: readonly string[]
  readonly uri: readonly string[]
}

/** A request may ask for less than the policy gives, never for more. */
function assertNames(asked: Names, entry: AgentEntry, spiffeId: string): void {
  const outside = [
    ...asked.dns.filter((name) => !entry.names.dns.includes(name)),
    ...asked.ip.filter((name) => !entry.names.ip.includes(name)),
    ...asked.uri.filter((name) => name !== spiffeId),
  ]
  if (outside.length > 0) {
    throw new RotorError(
      'ERR_SIGN_REFUSED',
      `names outside the policy of ${entry.name}: ${outside.join(', ')}`,
    )
  }
}
