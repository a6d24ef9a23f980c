/**
 * Before a bundle with a new authority is committed: would it work? Real leaves of the authority that signs and of the
 * next one are verified with the trust of before and of after, with either kind of trust file, as docs/operations.md
 * ("Changing the root") has the table. Nothing is remembered: after a crash it is simply asked again.
 */
import { caFile } from '../../src/bundle/payload.ts'
import { RotorError } from '../../src/errors.ts'
import type { Epoch } from '../../src/schedule.ts'
import type { Instant } from '../../src/time.ts'
import { type Certificate, parseCertificate, parseCertificates } from '../../src/trust/certificate.ts'
import { verifyLeaf } from '../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair } from '../../src/trust/keys.ts'
import { type BundlePayload, scheduleOf } from '../../src/wire/bundle.ts'
import type { Authority } from '../authority/authority.ts'

export interface Combination {
  /** `new: authorities`, `old: root`, `only the new root`. */
  readonly trust: string
  readonly leaf: 'old' | 'new'
  /** Why it does not verify; null when it does. */
  readonly problem: string | null
}

export interface RehearsalOptions {
  readonly authority: Pick<Authority, 'sign'>
  /** SPIFFE ID of the leaves. */
  readonly spiffeId: string
  /** The bundle that is in force, and the one that is to follow it. */
  readonly before: BundlePayload
  readonly after: BundlePayload
  /** The authority that is new in `after`. */
  readonly next: Epoch
  readonly now: Instant
}

interface Case {
  readonly trust: string
  readonly anchors: string
  readonly leaf: 'old' | 'new'
}

/** Verifies every combination that has to work. Throws ERR_REHEARSAL_FAILED naming those that do not. */
export async function rehearse(options: RehearsalOptions): Promise<readonly Combination[]> {
  const { before, after, next, now } = options
  const { lead } = scheduleOf(after)
  const signer = before.authorities.find(({ epoch }) => epoch === before.epoch)?.certificate ?? ''
  const ended = parseCertificate(signer, `authority of epoch ${before.epoch}`).notAfter <= now
  const chains = {
    old: ended ? null : await chainOf(options, before.epoch),
    new: await chainOf(options, next),
  }
  const results = casesOf(before, after, chains.new ?? []).flatMap(({ trust, anchors, leaf }) => {
    const chain = chains[leaf]
    if (chain === null) return []
    return [{ trust, leaf, problem: problemOf(chain, anchors, now, lead) }]
  })
  const broken = results.filter(({ problem }) => problem !== null)
  if (broken.length === 0) return results
  const told = broken.map(({ trust, leaf, problem }) => `${leaf} leaf with trust in ${trust}: ${problem}`)
  throw new RotorError(
    'ERR_REHEARSAL_FAILED',
    `bundle ${after.version} is not published, because leaves would not verify: ${told.join('; ')}`,
  )
}

/** A leaf of an authority that lost its key is in nobody's hands but the fleet's: it can not be made here. */
async function chainOf({ authority, spiffeId, after, next, now }: RehearsalOptions, epoch: Epoch) {
  const { lead } = scheduleOf(after)
  const csr = await parseCsr(await makeCsr(await generateKeyPair(), { subject: 'rehearsal' }))
  try {
    const chain = await authority.sign(epoch, {
      csr,
      commonName: 'rehearsal',
      names: { dns: [], ip: [], uri: [spiffeId] },
      notBefore: now - lead,
      notAfter: now + lead,
    })
    return parseCertificates(chain, `leaf of epoch ${epoch}`)
  } catch (cause) {
    if (epoch !== next && RotorError.is(cause) && cause.code === 'ERR_AUTHORITY_MISSING') return null
    throw cause
  }
}

/**
 * The old leaf has to verify before and after, the new one after. With roots as anchors the new one has to verify with
 * the trust of before, too, because a root is trusted before anything is issued under it. Where two roots signed each
 * other's key, each leaf has to verify with either of them alone.
 */
function casesOf(before: BundlePayload, after: BundlePayload, newChain: readonly Certificate[]): Case[] {
  const cases: Case[] = []
  for (const anchors of ['authorities', 'root'] as const) {
    const [old, fresh] = [caFile(before, anchors), caFile(after, anchors)]
    cases.push({ trust: `old: ${anchors}`, anchors: old, leaf: 'old' })
    cases.push({ trust: `new: ${anchors}`, anchors: fresh, leaf: 'old' })
    cases.push({ trust: `new: ${anchors}`, anchors: fresh, leaf: 'new' })
    if (anchors === 'root') cases.push({ trust: 'old: root', anchors: old, leaf: 'new' })
  }
  const crossSigned = newChain.length > 2
  if (!crossSigned) return cases
  for (const [i, root] of after.roots.entries()) {
    for (const leaf of ['old', 'new'] as const) {
      cases.push({ trust: `only root ${i + 1}`, anchors: root, leaf })
    }
  }
  return cases
}

function problemOf(
  chain: readonly Certificate[],
  anchors: string,
  now: Instant,
  skew: number,
): string | null {
  try {
    const trusted = parseCertificates(anchors, 'trust')
    for (const usage of ['clientAuth', 'serverAuth'] as const)
      verifyLeaf(chain, trusted, now, { skew, usage })
    return null
  } catch (cause) {
    return RotorError.from(cause).message
  }
}
