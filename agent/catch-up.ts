/**
 * A node that was away for so long that no server shows it a certificate it trusts: it is given the newest bundle by
 * hand. Where that came from does not matter, it has to prove itself by the signers this node knows.
 */
import type { AcceptedBundle } from '../src/bundle/accept.ts'
import { caFile } from '../src/bundle/payload.ts'
import type { AgentConfig } from '../src/domain/config.ts'
import { RotorError } from '../src/errors.ts'
import type { Generation, IdentityDirectory } from '../src/identity/directory.ts'
import type { IdentityMaterial } from '../src/identity/material.ts'
import type { Logger } from '../src/log.ts'
import type { Clock, Instant } from '../src/time.ts'
import { parseCertificates } from '../src/trust/certificate.ts'
import { verifyLeaf } from '../src/trust/chain.ts'
import { type BundlePayload, scheduleOf } from '../src/wire/bundle.ts'
import { Acceptance } from './acceptance.ts'

export interface CatchUpOptions {
  readonly config: Pick<AgentConfig, 'anchors'>
  readonly clock: Clock
  readonly logger: Logger
}

/**
 * Accepts the envelope by all rules, remembers it, and puts its trust beside the leaf that there is; agent and targets
 * prove that as any other change. One that is not newer than what the node has changes nothing. Returns why no server
 * would take the leaf any more, then only joining helps; or null. Throws the ERR_BUNDLE_* code of the first rule broken.
 */
export async function catchUp(
  directory: IdentityDirectory,
  envelope: Uint8Array,
  { config, clock, logger }: CatchUpOptions,
): Promise<string | null> {
  const acceptance = await Acceptance.open(directory, clock)
  const bundle = await acceptOrPass(acceptance, envelope, logger)
  const current = await directory.current()
  if (bundle === null || current === null) return null
  const held = await directory.load(current.name)
  const problem = problemOfLeaf(held, bundle.payload, clock.now())
  if (problem !== null) return problem
  const ca = caFile(bundle.payload, config.anchors)
  if (current.manifest.version < bundle.payload.version && held.ca !== ca) {
    await trust(directory, current, { ...held, ca }, bundle, clock.now())
  }
  const { version } = bundle.payload
  logger.info({ version, before: current.manifest.version }, 'the bundle that was given is trusted')
  return null
}

/** Null for one that is not newer: a unit file may name the same source for ever. */
async function acceptOrPass(
  acceptance: Acceptance,
  envelope: Uint8Array,
  logger: Logger,
): Promise<AcceptedBundle | null> {
  try {
    return await acceptance.accept(envelope)
  } catch (cause) {
    const { code, message } = RotorError.from(cause)
    if (code !== 'ERR_BUNDLE_REPLAYED') throw cause
    logger.info({ err: message }, 'the bundle that was given is not newer than what this node has')
    return null
  }
}

/** Complete and in one step, but not proven: the agent tells and proves it when it is connected. */
async function trust(
  directory: IdentityDirectory,
  { manifest }: Generation,
  material: IdentityMaterial,
  { payload, digest }: AcceptedBundle,
  now: Instant,
): Promise<void> {
  const facts = { version: payload.version, digest, epoch: manifest.epoch }
  const staged = await directory.stage(material, facts, now, { skew: scheduleOf(payload).lead })
  await directory.publish(staged)
}

/** Why would no server that follows this bundle take the leaf? Null when it would. */
export function problemOfLeaf(
  { certificate }: Pick<IdentityMaterial, 'certificate'>,
  payload: BundlePayload,
  now: Instant,
): string | null {
  const anchors = payload.authorities.flatMap((authority) =>
    parseCertificates(authority.certificate, `authority of epoch ${authority.epoch}`),
  )
  try {
    verifyLeaf(parseCertificates(certificate, 'tls.crt'), anchors, now, { usage: 'clientAuth' })
    return null
  } catch (cause) {
    return RotorError.from(cause).message
  }
}

/** Servers that show what we do not trust: either they are not ours, or we were away for too long. */
export function withAdvice(cause: unknown, agent: string, version: number): unknown {
  if (!RotorError.is(cause) || cause.details.untrusted !== true) return cause
  return new RotorError(
    cause.code,
    `${cause.message}. This node trusts what bundle ${version} says. If it was away for long, start it once with a newer one: \`rotor bundle export --out FILE\` at the issuer, \`rotor agent --bundle FILE\` for ${agent}`,
    { cause, details: cause.details },
  )
}
