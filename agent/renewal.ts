/** A new leaf: new key, CSR, a request proven by the current leaf key. The private key never leaves this process. */
import type { NatsConnection } from '@nats-io/transport-node'
import type { AcceptedBundle } from '../src/bundle/accept.ts'
import type { AgentConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { IdentitySnapshot } from '../src/identity/identity.ts'
import { type Epoch, renewAt } from '../src/schedule.ts'
import { type Clock, type Duration, formatInstant, type Instant, sleep, type Tick } from '../src/time.ts'
import { parseCertificates } from '../src/trust/certificate.ts'
import { makeCsr } from '../src/trust/csr.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../src/trust/keys.ts'
import { proveClaims } from '../src/trust/proof.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { SIGN_TIMEOUT, type SignAnswer, signAnswer } from '../src/wire/requests.ts'

/** When the issuer signs for a whole fleet, it may send an agent away more than once. */
const MAX_TRIES = 10
/** Without a time in the answer. */
const RETRY_AFTER: Duration = 500
/** Part of a wait that may be added by chance, so that two agents with the same moment do not keep it. */
const JITTER = 0.1

export interface RenewedLeaf {
  readonly key: string
  /** PEM chain, leaf first. */
  readonly certificate: string
  readonly epoch: Epoch
}

/** Does this leaf have to be replaced under this bundle? Pure. */
export function isRenewalDue(
  leafEpoch: Epoch,
  leaf: { notBefore: Instant; notAfter: Instant },
  signingEpoch: Epoch,
  now: Instant,
): boolean {
  return leafEpoch !== signingEpoch || now >= renewAt(leaf.notBefore, leaf.notAfter)
}

/**
 * Milliseconds until a leaf has to be replaced although its authority still signs; `taken`: when we got it, null when that
 * is not known. By a clock that is ahead, or near the end of the authority, a new leaf is due as soon as the one before it:
 * so none is before a third of its life has passed here. Of our two clocks the one that says more counts, because one stands
 * still while the machine sleeps, and the other may be set back. Pure.
 */
export function untilRenewal(
  leaf: { notBefore: Instant; notAfter: Instant },
  taken: Tick | null,
  now: Tick,
): Duration {
  const due = renewAt(leaf.notBefore, leaf.notAfter) - now.wall
  if (taken === null) return due
  const age = Math.max(now.mono - taken.mono, now.wall - taken.wall)
  return Math.max(due, Math.floor((leaf.notAfter - leaf.notBefore) / 3) - age)
}

/** Asks the issuer for a leaf under the signing epoch of `bundle`. Throws the refusal of the issuer, or ERR_NATS_UNAVAILABLE. */
export async function renewLeaf(
  nc: NatsConnection,
  config: Pick<AgentConfig, 'agent' | 'names' | 'key'>,
  names: DomainNames,
  current: IdentitySnapshot,
  bundle: AcceptedBundle,
  clock: Clock,
  signal: AbortSignal,
): Promise<RenewedLeaf> {
  const keyPair = await generateKeyPair(config.key)
  const csr = await makeCsr(keyPair, {
    subject: config.agent,
    dns: config.names.dns,
    ip: config.names.ip,
    uri: [names.spiffeId(config.agent), ...config.names.uri],
  })
  const chain = parseCertificates(current.certificate, 'current leaf chain')
  for (let tries = 1; ; tries += 1) {
    const claims = {
      v: 1 as const,
      domain: names.domain,
      agent: config.agent,
      csr,
      epoch: bundle.payload.epoch,
      at: formatInstant(clock.now()),
    }
    const proof = await proveClaims(claims, privateKeyFromPem(current.key), chain)
    const answer = await ask(nc, names.signSubject(config.agent), proof)
    if (answer.ok && answer.epoch === bundle.payload.epoch) {
      return {
        key: privateKeyToPem(keyPair.privateKey),
        certificate: answer.chain,
        epoch: answer.epoch,
      }
    }
    const refusal = answer.ok
      ? new RotorError(
          'ERR_SIGN_BUSY',
          `expected a leaf of epoch ${bundle.payload.epoch}, the issuer still signs with ${answer.epoch}`,
        )
      : new RotorError(answer.code, `the issuer refused: ${answer.message}`)
    if (refusal.code !== 'ERR_SIGN_BUSY' || tries >= MAX_TRIES) throw refusal
    const wait = answer.ok ? 100 * tries : (answer.retryAfter ?? RETRY_AFTER)
    await sleep(Math.round(wait * (1 + JITTER * Math.random())), signal, clock)
  }
}

async function ask(nc: NatsConnection, subject: string, proof: string): Promise<SignAnswer> {
  try {
    const message = await nc.request(subject, proof, { timeout: SIGN_TIMEOUT })
    return decodeRecord(signAnswer, message.data, `answer on ${subject}`)
  } catch (cause) {
    throw RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', `no answer on ${subject}`)
  }
}
