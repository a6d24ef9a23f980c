/**
 * Evidence from the servers themselves: real handshakes with a short-lived leaf of the authority in question. Results
 * count for one phase only; what was seen before it began proves nothing in it.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { AgentEntry, ListenerConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Logger } from '../src/log.ts'
import { discoverServers } from '../src/nats/server-info.ts'
import { type ProbeResult, probeListener } from '../src/probe/probe.ts'
import type { ObservedListener, ObservedServer } from '../src/rotation/state.ts'
import type { Epoch } from '../src/schedule.ts'
import type { Clock } from '../src/time.ts'
import { type Certificate, parseCertificate } from '../src/trust/certificate.ts'
import { issuerAmong } from '../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../src/trust/csr.ts'
import { generateKeyPair, privateKeyToPem } from '../src/trust/keys.ts'
import { type BundlePayload, scheduleOf } from '../src/wire/bundle.ts'
import type { Authority } from './authority/authority.ts'

type Proof = NonNullable<ObservedListener['proof']>

export interface ProberOptions {
  /** Every agent of the domain now. */
  readonly agents: () => readonly AgentEntry[]
  readonly authority: Authority
  /** SPIFFE ID that the probe leaf carries: the issuer's own. */
  readonly spiffeId: string
  readonly clock: Clock
  readonly logger: Logger
}

export interface Wanted {
  readonly epoch: Epoch
  /** Names. */
  readonly servers: readonly string[]
  /** The leaf has to be refused. */
  readonly refusal?: boolean
}

export class Prober {
  readonly #options: ProberOptions
  readonly #proofs = new Map<string, Proof>()
  #proofsFor = ''
  #strangers: readonly string[] = []

  constructor(options: ProberOptions) {
    this.#options = options
  }

  /** Servers and what is proven of them since the phase with this mark began. */
  observe(mark: string): ObservedServer[] {
    this.#forget(mark)
    const known = this.#servers().map((entry) => ({
      name: entry.name,
      agent: entry.name,
      listeners: entry.listeners.map((l) => ({
        kind: l.kind,
        address: l.address,
        proof: this.#proofs.get(keyOf(entry, l)) ?? null,
      })),
    }))
    return [...known, ...this.#strangers.map((name) => ({ name, agent: null, listeners: [] }))]
  }

  /** Asks which servers there are; one that has no agent shows up from then on. */
  async discover(nc: NatsConnection, timeout = 500): Promise<void> {
    const found = await discoverServers(nc, { timeout })
    const known = new Set(this.#servers().map((entry) => entry.name))
    this.#strangers = found.map((server) => server.name).filter((name) => !known.has(name))
  }

  /**
   * Dials every listener of these servers that is not proven yet for this epoch: that it takes a leaf, and serves one
   * when the epoch signs; or, for one that left trust, that it refuses one. Failures are results, not errors.
   */
  async probe(
    { epoch, servers, refusal = false }: Wanted,
    bundle: BundlePayload,
    mark: string,
    signal: AbortSignal,
  ): Promise<void> {
    this.#forget(mark)
    const authorities = bundle.authorities.map((a) => ({
      epoch: a.epoch,
      certificate: parseCertificate(a.certificate, `epoch ${a.epoch}`),
    }))
    const done = (proof: Proof | undefined): boolean =>
      refusal ? proof?.refuses?.epoch === epoch : isProven(proof, epoch, bundle.epoch)
    const pending = this.#servers()
      .filter(({ name }) => servers.includes(name))
      .flatMap((entry) =>
        entry.listeners
          .filter((l) => !done(this.#proofs.get(keyOf(entry, l))))
          .map((l) => ({ entry, listener: l })),
      )
    if (pending.length === 0) return
    const material = await this.#material(epoch, bundle)
    await Promise.all(
      pending.map(async ({ entry, listener }) => {
        const before = this.#proofs.get(keyOf(entry, listener))
        const proof = await this.#dial(listener, epoch, material, authorities, before, signal)
        if (this.#proofsFor === mark) this.#proofs.set(keyOf(entry, listener), proof)
        if (proof.error !== null && !refusal)
          this.#options.logger.info(
            { server: entry.name, listener: listener.kind, err: proof.error },
            'not proven yet',
          )
      }),
    )
  }

  async #dial(
    listener: ListenerConfig,
    epoch: Epoch,
    material: { key: string; certificate: string; ca: string },
    authorities: readonly { epoch: Epoch; certificate: Certificate }[],
    before: Proof | undefined,
    signal: AbortSignal,
  ): Promise<Proof> {
    const at = this.#options.clock.now()
    try {
      const result = await probeListener(listener, { material, signal, timeout: 3000 })
      return {
        at,
        accepts: result.accepted ? [epoch] : [],
        serves: servedEpoch(result, authorities),
        ...(result.accepted
          ? { error: null }
          : {
              refuses: before?.refuses?.epoch === epoch ? before.refuses : { epoch, since: at },
              error: `refuses a leaf of epoch ${epoch}`,
            }),
      }
    } catch (cause) {
      signal.throwIfAborted()
      return { at, accepts: [], serves: null, error: RotorError.from(cause).message }
    }
  }

  async #material(
    epoch: Epoch,
    bundle: BundlePayload,
  ): Promise<{ key: string; certificate: string; ca: string }> {
    const schedule = scheduleOf(bundle)
    const now = this.#options.clock.now()
    const keyPair = await generateKeyPair()
    const certificate = await this.#options.authority.sign(epoch, {
      csr: await parseCsr(await makeCsr(keyPair, { subject: 'probe' })),
      commonName: 'probe',
      names: { dns: [], ip: [], uri: [this.#options.spiffeId] },
      notBefore: now - schedule.lead,
      notAfter: now + 60_000,
    })
    return {
      key: privateKeyToPem(keyPair.privateKey),
      certificate,
      ca: bundle.authorities.map((a) => a.certificate).join(''),
    }
  }

  #servers(): AgentEntry[] {
    return this.#options.agents().filter((entry) => entry.role === 'server')
  }

  #forget(mark: string): void {
    if (this.#proofsFor === mark) return
    this.#proofs.clear()
    this.#proofsFor = mark
  }
}

const keyOf = (entry: AgentEntry, l: ListenerConfig): string => `${entry.name} ${l.kind} ${l.address}`

/** Proven: takes a leaf of the epoch, and when that epoch signs, serves one of it too. */
function isProven(proof: Proof | undefined, epoch: Epoch, signing: Epoch): boolean {
  return proof?.accepts.includes(epoch) === true && (epoch !== signing || proof.serves === epoch)
}

function servedEpoch(
  result: ProbeResult,
  authorities: readonly { epoch: Epoch; certificate: Certificate }[],
): Epoch | null {
  const { served } = result
  if (served === null) return null
  const issuer = issuerAmong(
    served,
    authorities.map(({ certificate }) => certificate),
  )
  return authorities.find(({ certificate }) => certificate === issuer)?.epoch ?? null
}
