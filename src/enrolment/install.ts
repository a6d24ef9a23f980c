/** The first identity of a node, or its first one after the last has ended: one generation, and what it pins. */
import { caFile } from '../bundle/payload.ts'
import type { IdentityDirectory, StagedGeneration } from '../identity/directory.ts'
import type { IdentityMaterial } from '../identity/material.ts'
import type { Instant } from '../time.ts'
import { type BundlePayload, scheduleOf } from '../wire/bundle.ts'

export interface Enrolment {
  readonly agent: string
  readonly material: Pick<IdentityMaterial, 'key' | 'certificate'>
  readonly bundle: { readonly payload: BundlePayload; readonly digest: string; readonly envelope: Uint8Array }
  /** What the trust file holds. @default 'authorities' */
  readonly anchors?: 'authorities' | 'root'
  /**
   * Nothing uses the directory yet, so there is nothing to prove. Where something may, the agent tells and proves it
   * when it starts.
   */
  readonly proven: boolean
}

/**
 * Writes it: the generation complete, then the accepted version, then the switch, so that a crash anywhere leaves
 * either what was there or all of it. Throws ERR_IDENTITY_* and, for a version below the highest, ERR_BUNDLE_*.
 */
export async function installEnrolment(
  directory: IdentityDirectory,
  { agent, material, bundle, anchors, proven }: Enrolment,
  now: Instant,
): Promise<StagedGeneration> {
  const { payload, digest, envelope } = bundle
  const facts = { version: payload.version, digest }
  const staged = await directory.stage(
    { ...material, ca: caFile(payload, anchors) },
    { ...facts, epoch: payload.epoch },
    now,
    { skew: scheduleOf(payload).lead },
  )
  await directory.writeState({
    v: 1,
    domain: payload.domain,
    agent,
    highest: facts,
    signers: payload.signers,
    roots: payload.roots,
    envelope: Buffer.from(envelope).toString('utf8'),
    proven: proven ? { ...facts, generation: staged.name } : null,
  })
  await directory.publish(staged)
  return staged
}
