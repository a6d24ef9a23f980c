/**
 * From an accepted bundle to a proven generation, in named steps: renew, stage, preflight, publish, notify, prove.
 * What fails before `publish` leaves the node untouched; what fails after it is put back and proven again.
 */
import type { AcceptedBundle } from '../src/bundle/accept.ts'
import { caFile } from '../src/bundle/payload.ts'
import type { AgentConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Generation, IdentityDirectory, StagedGeneration } from '../src/identity/directory.ts'
import type { IdentitySnapshot } from '../src/identity/identity.ts'
import type { IdentityMaterial } from '../src/identity/material.ts'
import { isVerdict } from '../src/rotation/budget.ts'
import { type Epoch, spread, spreadWindow } from '../src/schedule.ts'
import { type Clock, formatInstant, sleep } from '../src/time.ts'
import { scheduleOf } from '../src/wire/bundle.ts'
import type { DomainNames } from '../src/wire/names.ts'
import type { ApplyStep } from '../src/wire/status.ts'
import type { Acceptance } from './acceptance.ts'
import { Audience, type AudienceParts } from './audience.ts'
import type { AgentEvent } from './events.ts'
import { preflight } from './preflight.ts'
import { isRenewalDue, renewLeaf } from './renewal.ts'
import type { Reporter } from './reporter.ts'
import { Spare } from './spare.ts'
import { acquireTurn, followCanary, releaseTurn, type TurnOf, type TurnOutcome } from './turn.ts'
import { usageStatusOf } from './usage.ts'

export interface ApplierParts extends AudienceParts {
  readonly config: AgentConfig
  readonly names: DomainNames
  readonly directory: IdentityDirectory
  readonly acceptance: Acceptance
  readonly reporter: Reporter
  readonly clock: Clock
  readonly onEvent: (event: AgentEvent) => void
}

/** What is left to do when a bundle is applied: close the control connection that was replaced. */
export type Retire = () => Promise<void>
const nothingToRetire: Retire = async () => {}

export class Applier {
  readonly #p: ApplierParts
  readonly #audience: Audience
  /** The current generation as it was read or published last; the directory has no other writer. */
  #last: Generation | null = null
  /**
   * A generation was put back that the control connection may have been dialled with meanwhile: it would keep the authority of
   * that one in trust.
   */
  #strayed = false

  constructor(parts: ApplierParts) {
    this.#p = parts
    this.#audience = new Audience(parts)
  }

  /** Was a newer one accepted since? Then this one is never applied again. */
  isSuperseded({ payload }: AcceptedBundle): boolean {
    return this.#p.acceptance.highest.version > payload.version
  }

  /** Is there anything to do for this bundle? */
  async isApplied(bundle: AcceptedBundle): Promise<boolean> {
    const current = this.#last ?? (await this.#current())
    const { leaf } = this.#p.identity.current()
    return (
      current.manifest.version >= bundle.payload.version &&
      this.isProven(current) &&
      !isRenewalDue(current.manifest.epoch, leaf, bundle.payload.epoch, this.#p.clock.now())
    )
  }

  /** Throws the reason when the bundle could not be applied; the node then is as it was before. */
  async apply(bundle: AcceptedBundle, signal: AbortSignal): Promise<Retire> {
    const { reporter, clock, logger, onEvent } = this.#p
    const { version } = bundle.payload
    const began = clock.now()
    const before = await this.#current()
    reporter.update({ state: 'applying' })
    let next: Generation | StagedGeneration
    try {
      next = await this.#prepare(bundle, before, signal)
    } catch (cause) {
      await this.#notPublished(before, cause, version)
      throw cause
    }
    const retire = await this.#install(bundle, before, next, signal)
    const took = clock.now() - began
    const { leaf } = this.#p.identity.current()
    logger.info(
      { version, epoch: next.manifest.epoch, fingerprint: leaf.sha256, tookMs: took },
      'bundle applied and proven',
    )
    onEvent({ type: 'applied', version, epoch: next.manifest.epoch, fingerprint: leaf.sha256, tookMs: took })
    return retire
  }

  /** Everything that can be done without anybody noticing: renew, stage, preflight. */
  async #prepare(
    bundle: AcceptedBundle,
    before: Generation,
    signal: AbortSignal,
  ): Promise<Generation | StagedGeneration> {
    const { directory, clock, identity, config, link } = this.#p
    const { payload } = bundle
    const held = identity.current()
    const renewed = isRenewalDue(before.manifest.epoch, held.leaf, payload.epoch, clock.now())
    if (!renewed && before.manifest.version === payload.version) return before
    const material = renewed
      ? await this.#renew(bundle, before, held, signal)
      : { ...held, epoch: before.manifest.epoch }
    this.#step('stage', payload.version)
    const staged = await directory.stage(
      { key: material.key, certificate: material.certificate, ca: caFile(payload, config.anchors) },
      { version: payload.version, digest: bundle.digest, epoch: material.epoch },
      clock.now(),
      { skew: scheduleOf(payload).lead },
    )
    this.#step('preflight', payload.version)
    const now = link.connected ? [link.nc.getServer()] : []
    await preflight([...now, ...config.servers], config.handshakeFirst, held, staged.snapshot, signal)
    return staged
  }

  async #renew(
    bundle: AcceptedBundle,
    before: Generation,
    held: IdentitySnapshot,
    signal: AbortSignal,
  ): Promise<IdentityMaterial & { epoch: Epoch }> {
    const { config, names, link, clock } = this.#p
    const { payload } = bundle
    this.#step('renew', payload.version)
    const from = payload.authorities.find(({ epoch }) => epoch === before.manifest.epoch)
    // off a tainted authority everybody goes at once
    if (config.spread && config.role === 'service' && from?.status !== 'tainted') {
      await sleep(spread(config.agent, spreadWindow(scheduleOf(payload))), signal, clock)
    }
    const leaf = await renewLeaf(await link.ready(signal), config, names, held, bundle, clock, signal)
    return { key: leaf.key, certificate: leaf.certificate, ca: held.ca, epoch: leaf.epoch }
  }

  /** From here on others see it: publish, notify, prove; or put back. */
  async #install(
    bundle: AcceptedBundle,
    before: Generation,
    next: Generation | StagedGeneration,
    signal: AbortSignal,
  ): Promise<Retire> {
    const { acceptance, reporter, directory, identity } = this.#p
    const { version } = bundle.payload
    const news = before.name === next.name || !sameMaterial(before, next)
    const exclusive = news && this.#audience.isExclusive
    if (news) await this.#await(exclusive ? acquireTurn : followCanary, version, before, signal)
    const spare = new Spare()
    try {
      this.#step('publish', version)
      await directory.publish(next)
      const leafChanged = before.manifest.leaf !== next.manifest.leaf
      this.#last = next
      identity.set('snapshot' in next ? next.snapshot : identity.current())
      if (leafChanged || before.name === next.name || this.#strayed) spare.dial(this.#p.link)
      // A bundle may change no file at all; then nobody is told, because each reload re-authenticates every client.
      const evidence = news
        ? await this.#audience.convince((step) => this.#step(step, version), signal)
        : reporter.status.targets
      const retire = await this.#renewLink(version, spare)
      await acceptance.markProven({ version, digest: bundle.digest, generation: next.name })
      this.#step('report', version)
      reporter.update({
        ...this.#ofGeneration(next),
        state: 'applied',
        targets: evidence,
        step: 'idle',
        lastError: null,
      })
      // The next server waits for the turn, nobody for the tidying.
      await Promise.all([exclusive ? this.#giveTurn(version, 'applied') : null, this.#tidy()])
      return retire
    } catch (cause) {
      spare.drop()
      if (signal.aborted) throw cause
      await this.#putBack(version, before, next, cause, signal)
      const outcome = isRefusal(cause) ? 'rolled-back' : undefined
      await Promise.all([exclusive ? this.#giveTurn(version, outcome) : null, this.#tidy()])
      throw cause
    }
  }

  /** Moves the control connection to the one that was dialled while the targets proved themselves. */
  async #renewLink(version: number, spare: Spare): Promise<Retire> {
    const began = performance.now()
    const dialled = await spare.take()
    if (dialled === null) return nothingToRetire
    const retire = await this.#p.link.renew(dialled)
    this.#strayed = false
    this.#p.onEvent({ type: 'link', version, tookMs: performance.now() - began })
    return retire
  }

  /** Back to the generation that was proven last; a node that was never proven with another one stays as it is. */
  async #putBack(
    version: number,
    before: Generation,
    next: Generation,
    cause: unknown,
    signal: AbortSignal,
  ): Promise<void> {
    const { directory, identity, acceptance, logger, onEvent, reporter } = this.#p
    const error = RotorError.from(cause, 'ERR_PROOF_FAILED')
    logger.error(
      { version, code: error.code, err: error.message },
      'the generation could not be proven, putting the previous one back',
    )
    this.#last = null
    const known = await directory.list()
    const wanted = [acceptance.proven?.generation, before.name].find(
      (name) => name !== undefined && known.includes(name),
    )
    if (wanted !== undefined && wanted !== next.name) {
      await directory.putBack({ name: wanted })
      this.#strayed = true
      identity.set(await directory.load(wanted))
    }
    const evidence = await this.#audience.convinceAgain((step) => this.#step(step, version), signal)
    reporter.update({
      ...this.#ofGeneration(await this.#current()),
      state: 'rolled-back',
      targets: evidence,
      step: 'idle',
      lastError: this.#errorRecord(error, version),
    })
    onEvent({ type: 'rolled-back', version, code: error.code, message: error.message })
  }

  /** Nothing is visible to others yet: what was staged goes, the node stays as it was. */
  async #notPublished(before: Generation, cause: unknown, version: number): Promise<void> {
    const state = this.isProven(before) ? 'applied' : 'applying'
    this.#p.reporter.update({ state, step: 'idle', lastError: this.#errorRecord(cause, version) })
    await this.#tidy()
  }

  /** A generation counts when its targets were proven with it; after a crash the current one may not be. */
  isProven(generation: Pick<Generation, 'name'>): boolean {
    return this.#p.acceptance.proven?.generation === generation.name
  }

  /** Old generations are no reason to fail. */
  async #tidy(): Promise<void> {
    const { directory, config, logger } = this.#p
    await directory
      .prune(config.keep)
      .catch((cause) => logger.warn({ err: RotorError.from(cause).message }, 'old generations stay'))
  }

  /** Servers go one by one, all others after the first of them. */
  async #await(
    leave: typeof acquireTurn,
    version: number,
    before: Generation,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, onEvent } = this.#p
    onEvent({ type: 'turn', turn: 'wanted', version })
    try {
      await leave(this.#turnOf(version), clock, signal)
      onEvent({ type: 'turn', turn: 'ours', version })
    } catch (cause) {
      await this.#notPublished(before, cause, version)
      throw cause
    }
  }

  /** A turn that can not be given back ends by itself; the step it protected is done. */
  async #giveTurn(version: number, outcome: TurnOutcome): Promise<void> {
    const { clock, logger, onEvent } = this.#p
    onEvent({ type: 'turn', turn: 'over', version })
    await releaseTurn(this.#turnOf(version), outcome, clock).catch((cause) =>
      logger.warn(
        { err: RotorError.from(cause).message },
        'the turn was not given back, it will end by itself',
      ),
    )
  }

  #turnOf(version: number): TurnOf {
    const { link, names, config } = this.#p
    return { nc: () => link.nc, names, agent: config.agent, version }
  }

  #step(step: ApplyStep, version: number): void {
    this.#p.reporter.update({ step })
    this.#p.logger.debug({ step, version }, 'step')
    this.#p.onEvent({ type: 'step', step, version })
  }

  async #current(): Promise<Generation> {
    const current = await this.#p.directory.current()
    if (current === null)
      throw new RotorError('ERR_IDENTITY_MISSING', `${this.#p.directory.path}: no current generation`)
    this.#last = current
    return current
  }

  #ofGeneration({ manifest }: Generation) {
    return {
      version: manifest.version,
      digest: manifest.digest,
      leaf: { fingerprint: manifest.leaf, issuerEpoch: manifest.epoch, notAfter: manifest.notAfter },
      // in the same record: a status that has the new leaf and not yet what stands on the old one would free the old
      usage: usageStatusOf(this.#p.identity),
    }
  }

  #errorRecord(cause: unknown, version: number) {
    const error = RotorError.from(cause)
    return {
      code: error.code,
      message: error.message.slice(0, 500),
      at: formatInstant(this.#p.clock.now()),
      version,
    }
  }
}

/** Do these generations hold the same bytes? */
function sameMaterial(a: Generation, b: Generation): boolean {
  return JSON.stringify(a.manifest.files) === JSON.stringify(b.manifest.files)
}

/** A server that is down says nothing of the version: the others need not wait until it is back. */
const isRefusal = (cause: unknown): boolean => isVerdict(RotorError.from(cause, 'ERR_PROOF_FAILED').code)
