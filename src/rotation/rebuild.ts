/**
 * The state of a rotation from the bundles that were kept, after the record of it was lost. Where they do not tell what
 * was under way, the phase that asks for more evidence is taken: it holds until the fleet has shown where it stands.
 */
import { payloadDigest } from '../bundle/payload.ts'
import { KIND_OF } from '../bundle/signer.ts'
import { RotorError } from '../errors.ts'
import type { Instant } from '../time.ts'
import { type BundlePayload, bundlePayload } from '../wire/bundle.ts'
import { decodeRecord } from '../wire/record.ts'
import { bundleOf, rootsIn } from './payloads.ts'
import type { Observations, RotationState } from './state.ts'

export interface Kept extends Pick<Observations, 'roots' | 'signedBy' | 'signers'> {
  readonly domain: string
  /** Payload texts, in any order. The one with the highest version is in force. */
  readonly payloads: readonly string[]
  readonly fence: number
}

/** Throws ERR_RECORD_INVALID when there is no payload, or one is none of this domain. */
export function rebuild(kept: Kept, now: Instant): RotationState {
  const { domain, payloads, fence } = kept
  const history = payloads
    .map((payload) => ({ payload, bundle: decodeRecord(bundlePayload, payload, `kept bundle of ${domain}`) }))
    .sort((a, b) => a.bundle.version - b.bundle.version)
  const newest = history.at(-1)
  if (newest === undefined) {
    throw new RotorError('ERR_RECORD_INVALID', `kept bundles of ${domain}: expected one, found none`)
  }
  const { payload, bundle } = newest
  const bundles = history.map((one) => one.bundle)
  const state: RotationState = {
    v: 1,
    domain,
    fence,
    payload,
    digest: payloadDigest(payload),
    version: bundle.version,
    since: now,
    order: null,
    waivers: [],
    phaseVersion: bundle.version,
    newest: Math.max(...bundles.flatMap(epochsOf)),
    replaced: replacedIn(bundles, bundle),
    newestRoot: Math.max(1, ...numbersOf(bundle, kept)),
    tainted: taintedIn(bundle),
    paused: null,
    newestSigner: newestSignerOf(bundle, kept),
    signer: signerChangeOf(bundle),
    pending: { orders: [], moves: [], left: 0 },
    ...standingOf(bundle, kept),
  }
  bundleOf(state) // the checks of a stored state
  return state
}

/** Introducing begins in steady only, so a root that signed nothing decides before leaves that may be old do. */
function standingOf(bundle: BundlePayload, kept: Kept) {
  const active = bundle.epoch
  const prepared = bundle.authorities.find(({ status }) => status === 'prepared')
  if (prepared !== undefined) return { phase: 'distributing', active, next: prepared.epoch } as const
  const signers = new Set(bundle.authorities.map(({ sha256 }) => kept.signedBy[sha256]))
  const [first] = rootsIn(bundle)
  if (bundle.roots.length > 1 && !signers.has(first)) return { phase: 'introducing', active } as const
  const retiring = epochsOf(bundle).filter((epoch) => epoch !== active)
  if (retiring.length === 0) return { phase: 'steady', active } as const
  return { phase: 'converging', active, previous: Math.max(...retiring) } as const
}

/** The first kept bundle in which an authority no longer signs; at the latest it stopped with the newest one. */
function replacedIn(bundles: readonly BundlePayload[], newest: BundlePayload): RotationState['replaced'] {
  const stopped = newest.authorities.filter(({ status }) => status !== 'active' && status !== 'prepared')
  return Object.fromEntries(
    stopped.map(({ epoch }) => {
      const signed = bundles.findLastIndex((bundle) => bundle.epoch === epoch)
      const { issuedAt, version } = bundles[signed + 1] ?? newest
      // without the bundle in which it signed last, the time it stopped is not known: later is safe
      const known = signed === -1 ? newest : { issuedAt, version }
      return [epoch, { at: Date.parse(known.issuedAt), version: known.version }]
    }),
  )
}

/** Which leaves its nodes held is lost: with none of them a node may ask for its next leaf, it has to join again. */
const taintedIn = (bundle: BundlePayload): RotationState['tainted'] =>
  Object.fromEntries(
    bundle.authorities
      .filter(({ status }) => status === 'tainted')
      .map(({ epoch, sha256 }) => {
        const words = { by: 'an order before the loss', reason: 'as the kept bundle says' }
        return [epoch, { ...words, at: Date.parse(bundle.issuedAt), sha256, leaves: [], removed: null }]
      }),
  )

const newestSignerOf = ({ signers }: BundlePayload, { signers: held = [] }: Kept): number =>
  Math.max(
    1,
    ...held.filter(({ key }) => signers.some(({ kid }) => kid === key.kid)).map((one) => one.number),
  )

/** A bundle with two signers is in the middle of a change; who knows the new one has to be shown again. */
function signerChangeOf({ signers, issuedAt, version }: BundlePayload): RotationState['signer'] {
  const [newest, ...old] = signers
  if (newest === undefined || old.length === 0) return null
  const at = Date.parse(issuedAt)
  const words = { by: 'an order before the loss', reason: 'as the kept bundle says', at }
  const kind = KIND_OF[newest.kty]
  return { ...words, kind, force: false, withdrawn: false, introduced: { at, version } }
}

function numbersOf(bundle: BundlePayload, { roots }: Kept): number[] {
  const trusted = new Set(rootsIn(bundle))
  return roots.filter(({ sha256 }) => trusted.has(sha256)).map(({ number }) => number)
}

const epochsOf = (bundle: BundlePayload): number[] => bundle.authorities.map(({ epoch }) => epoch)
