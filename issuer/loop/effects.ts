/** Performs what `advance` wants done. Every effect may come again: after a crash, or when the one before it failed. */
import type { NatsConnection } from '@nats-io/transport-node'
import { signBundle } from '../../src/bundle/envelope.ts'
import { RotorError } from '../../src/errors.ts'
import type { Logger } from '../../src/log.ts'
import type { Effect, RotationState } from '../../src/rotation/state.ts'
import type { Clock } from '../../src/time.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { assertIssuedBy } from '../../src/trust/chain.ts'
import { type BundlePayload, bundlePayload } from '../../src/wire/bundle.ts'
import type { DomainNames } from '../../src/wire/names.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import type { Authority } from '../authority/authority.ts'
import type { Census } from '../census/census.ts'
import type { BundleHistory } from '../history/history.ts'
import { keepFrom } from '../history/keep.ts'
import type { Lease } from '../lease/lease.ts'
import { openOwn } from '../own.ts'
import type { Prober } from '../prober.ts'
import type { SignerStore } from '../signers.ts'
import { publishBundle } from '../store.ts'
import type { IssuerEvent } from './events.ts'

export interface EffectsOptions {
  readonly names: DomainNames
  readonly authority: Authority
  readonly signers: SignerStore
  readonly history: BundleHistory
  readonly prober: Prober
  readonly census: Pick<Census, 'kick'>
  readonly lease: Pick<Lease, 'assertLeads'>
  readonly clock: Clock
  readonly logger: Logger
  readonly onEvent: (event: IssuerEvent) => void
}

/** On what an effect is performed. */
export interface Scene {
  readonly nc: NatsConnection
  /** The committed one. */
  readonly state: RotationState
  /** What proofs of listeners count for. */
  readonly mark: string
  /** Sequence of the last message on the bundle subject; 0 when there is none. */
  readonly sequence: number
  readonly signal: AbortSignal
}

export class Effects {
  readonly #options: EffectsOptions
  /** Why the key store does not know which authority signs: said once. */
  #untold = ''

  constructor(options: EffectsOptions) {
    this.#options = options
  }

  /** All of them, one after the other, and what the key store has to know; nothing once the lease is not certain. */
  async performAll(effects: readonly Effect[], scene: Scene): Promise<void> {
    const { lease, onEvent } = this.#options
    for (const effect of effects) {
      lease.assertLeads(scene.state.fence)
      onEvent({ type: 'effect', when: 'before', effect })
      await this.#perform(effect, scene)
      onEvent({ type: 'effect', when: 'after', effect })
    }
    lease.assertLeads(scene.state.fence)
    await this.#tellSigner(scene.state)
  }

  /** A state names as active what everybody trusts. No effect of `advance`: nothing of ours waits for it. */
  async #tellSigner({ active }: RotationState): Promise<void> {
    const { authority, logger } = this.#options
    try {
      await authority.activate(active)
      this.#untold = ''
    } catch (cause) {
      const { code, message } = RotorError.from(cause)
      if (message === this.#untold) return
      this.#untold = message
      logger.warn({ code, epoch: active, err: message }, 'the key store was not told which authority signs')
    }
  }

  async #perform(effect: Effect, scene: Scene): Promise<void> {
    const { authority, prober, census, logger } = this.#options
    switch (effect.kind) {
      case 'create-authority':
      case 'create-root':
        return this.make(effect, scene.state)
      case 'publish-bundle':
        await this.#publish(scene)
        logger.info({ version: scene.state.version }, 'bundle published')
        return
      case 'probe-servers':
        await prober.probe(effect, payloadOf(scene.state), scene.mark, scene.signal)
        return
      case 'prove-distrust':
        await prober.probe({ ...effect, refusal: true }, payloadOf(scene.state), scene.mark, scene.signal)
        return
      case 'kick-connections':
        await census.kick(scene.nc, effect.epoch, scene.signal)
        return
      case 'delete-authority':
        await authority.delete(effect.epoch)
        logger.info({ epoch: effect.epoch }, 'authority deleted')
        return this.#prune(scene.state)
      case 'delete-root':
        await authority.rootStore?.delete(effect.number)
        logger.info({ number: effect.number }, 'root deleted')
        return
      case 'create-signer':
        await this.#options.signers.create(effect.number, effect.signer)
        logger.info({ number: effect.number, kind: effect.signer }, 'signer of bundles created')
        return
      case 'delete-signer':
        await this.#options.signers.delete(effect.number)
        logger.info({ number: effect.number }, 'signer of bundles deleted')
    }
  }

  /** What is made in the key store, without a connection. */
  async make(
    effect: Extract<Effect, { kind: 'create-authority' | 'create-root' }>,
    state: RotationState,
  ): Promise<void> {
    const { authority, logger } = this.#options
    if (effect.kind === 'create-authority') {
      await this.#createAuthority(effect, state)
      logger.info({ epoch: effect.epoch }, 'authority created')
      return
    }
    const { rootStore } = authority
    if (rootStore === undefined) throw noRootStore()
    const { sha256 } = await rootStore.create(effect)
    logger.info({ number: effect.number, sha256 }, 'root created')
  }

  /**
   * One that was made before, under another root, is not taken and stays: another issuer may have put it into a bundle by
   * now. The next turn passes its epoch by.
   */
  async #createAuthority(
    effect: Extract<Effect, { kind: 'create-authority' }>,
    state: RotationState,
  ): Promise<void> {
    const { authority } = this.#options
    const { epoch, notBefore, notAfter } = effect
    const { certificate } = await authority.prepare(epoch, { notBefore, notAfter }, effect.root)
    const root = payloadOf(state)
      .roots.map((pem) => parseCertificate(pem, 'root'))
      .find(({ sha256 }) => sha256 === effect.root)
    try {
      if (root === undefined) throw new RotorError('ERR_INTERNAL', `root ${effect.root} is not in the bundle`)
      assertIssuedBy(parseCertificate(certificate, 'authority'), root)
    } catch (cause) {
      throw new RotorError(
        'ERR_AUTHORITY_MISSING',
        `authority of epoch ${epoch}: expected one under the root ${effect.root}, which every node knows, found another; a new root is introduced by \`rotor root rotate\` before it signs`,
        { cause },
      )
    }
  }

  /** Kept first, then published: what was kept before a crash is what goes out after it. */
  async #publish({ nc, state, sequence }: Scene): Promise<void> {
    const { names, signers, history } = this.#options
    const payload = payloadOf(state)
    const envelope = await history.store(state.version, await signBundle(state.payload, signers.of(payload)))
    const kept = await openOwn(envelope, names.domain, signers.known(payload))
    if (kept?.text !== state.payload) {
      throw new RotorError(
        'ERR_STATE_CONFLICT',
        `history of bundles of ${names.domain}: version ${state.version} is another bundle there, which agents may have`,
      )
    }
    await publishBundle(nc, names, envelope, state.version, sequence)
  }

  /** Bundles whose signer is trusted no more are of no use, once they are old. A failure costs only room. */
  async #prune(state: RotationState): Promise<void> {
    const { names, signers, history, clock, logger } = this.#options
    try {
      const payload = payloadOf(state)
      const known = signers.known(payload)
      const read = async (version: number) => {
        const envelope = await history.read(version)
        return envelope === null ? null : ((await openOwn(envelope, names.domain, known))?.bundle ?? null)
      }
      await history.prune(await keepFrom(await history.list(), read, payload, clock.now()))
    } catch (cause) {
      const { code, message } = RotorError.from(cause)
      logger.warn({ code, err: message }, 'old bundles stay in the history for now')
    }
  }
}

export const noRootStore = (): RotorError =>
  new RotorError(
    'ERR_ORDER_REFUSED',
    'a new root is made in the engine by its operator, who makes it the default issuer of the root mount; then order again (docs/operations.md, "Changing the root")',
  )

/** The payload of a state, parsed. */
export const payloadOf = (state: Pick<RotationState, 'payload'>): BundlePayload =>
  decodeRecord(bundlePayload, state.payload, 'payload of the rotation state')
