/** Which bundle payload belongs to a state, and which one follows it. */
import { encodePayload, payloadDigest } from '../bundle/payload.ts'
import { RotorError } from '../errors.ts'
import type { Epoch } from '../schedule.ts'
import { formatInstant, type Instant } from '../time.ts'
import { pemSha256 } from '../trust/pem.ts'
import {
  type BundleAuthority,
  type BundlePayload,
  type BundleRecord,
  bundlePayload,
  type SignerKey,
} from '../wire/bundle.ts'
import { decodeRecord } from '../wire/record.ts'
import type { RotationState } from './state.ts'

/** As many authorities as the bundle schema takes. */
export const MAX_AUTHORITIES = 64
/** As many characters as the bundle schema takes. */
const MAX_REASON = 1000

export interface Genesis {
  readonly domain: string
  /** The text of version 1, exactly as it is on the stream. */
  readonly payload: string
  readonly fence: number
}

/** The first state of a domain. Throws ERR_RECORD_INVALID when the payload is not the first bundle of this domain. */
export function bootstrap({ domain, payload, fence }: Genesis, now: Instant): RotationState {
  const bundle = decodeRecord(bundlePayload, payload, `first bundle of ${domain}`)
  const problems: string[] = []
  if (bundle.domain !== domain) problems.push(`domain: expected ${domain}, found ${bundle.domain}`)
  if (bundle.version !== 1) problems.push(`version: expected 1, found ${bundle.version}`)
  if (bundle.previous !== null) problems.push('previous: expected null in version 1')
  if (bundle.authorities.length !== 1) {
    problems.push(`authorities: expected the one that signs, found ${bundle.authorities.length}`)
  }
  problems.push(...unfit(bundle))
  if (problems.length > 0) {
    throw new RotorError('ERR_RECORD_INVALID', `first bundle of ${domain}: ${problems.join('; ')}`)
  }
  return {
    v: 1,
    domain,
    fence,
    payload,
    digest: payloadDigest(payload),
    version: 1,
    since: now,
    order: null,
    waivers: [],
    phaseVersion: 1,
    newest: bundle.epoch,
    replaced: {},
    newestRoot: 1,
    tainted: {},
    paused: null,
    newestSigner: 1,
    signer: null,
    pending: { orders: [], moves: [], left: 0 },
    phase: 'steady',
    active: bundle.epoch,
  }
}

/** SHA-256 of each root, in the order of the bundle. Throws ERR_RECORD_INVALID. */
export const rootsIn = ({ roots }: { readonly roots: readonly string[] }): string[] =>
  roots.map((root, i) => pemSha256(root, `rotation state: root ${i + 1}`, 'ERR_RECORD_INVALID'))

/** The payload of a state, parsed. Throws ERR_RECORD_INVALID when the two contradict each other. */
export function bundleOf(state: RotationState): BundlePayload {
  const bundle = decodeRecord(bundlePayload, state.payload, 'rotation state: payload')
  const problems: string[] = []
  const same = (key: string, expected: unknown, found: unknown) => {
    if (expected !== found) problems.push(`${key}: expected ${expected}, found ${found}`)
  }
  same('digest', payloadDigest(state.payload), state.digest)
  same('domain', bundle.domain, state.domain)
  same('version', bundle.version, state.version)
  same('active', bundle.epoch, state.active)
  problems.push(...unfit(bundle))
  const epochs = bundle.authorities.map((authority) => authority.epoch)
  if (state.phase === 'distributing' && !epochs.includes(state.next)) {
    problems.push(`next: expected an epoch of the bundle (${epochs.join(', ')}), found ${state.next}`)
  }
  if (state.phase === 'introducing' && bundle.roots.length < 2) {
    problems.push(`roots: expected the new one and one that signs, found ${bundle.roots.length}`)
  }
  if (Math.max(...epochs) > state.newest) {
    problems.push(`newest: expected ${Math.max(...epochs)} or more, found ${state.newest}`)
  }
  if (problems.length > 0) {
    throw new RotorError('ERR_RECORD_INVALID', `rotation state: ${problems.join('; ')}`)
  }
  return bundle
}

export interface Content {
  /** The signing epoch. */
  readonly epoch: Epoch
  readonly authorities: readonly BundleAuthority[]
  /** PEM, newest first. */
  readonly roots: readonly string[]
  readonly reason: string
  /** Newest first. @default as they are */
  readonly signers?: readonly SignerKey[]
  /** @default as it is */
  readonly succession?: readonly string[]
  /** For auditors. @default none */
  readonly record?: BundleRecord
}

/** The payload that follows the one of `state`. Throws ERR_INTERNAL rather than making one agents would refuse. */
export function following(
  state: RotationState,
  bundle: BundlePayload,
  content: Content,
  now: Instant,
): { readonly payload: string; readonly digest: string; readonly version: number } {
  const next: BundlePayload = {
    ...bundle,
    version: state.version + 1,
    previous: state.digest,
    epoch: content.epoch,
    issuedAt: formatInstant(now),
    expiresAt: formatInstant(now + bundle.schedule.validity),
    reason: clip(content.reason),
    authorities: content.authorities.toSorted((a, b) => a.epoch - b.epoch),
    roots: [...content.roots],
    ...(content.signers === undefined ? {} : { signers: [...content.signers] }),
    ...(content.succession === undefined ? {} : { succession: [...content.succession] }),
    record: content.record,
  }
  const problems = unfit(next)
  if (problems.length > 0) {
    throw new RotorError('ERR_INTERNAL', `bundle version ${next.version}: ${problems.join('; ')}`)
  }
  const payload = encodePayload(next)
  return { payload, digest: payloadDigest(payload), version: next.version }
}

/** What agents would refuse in these lists, as far as epochs, statuses and numbers tell. */
function unfit(bundle: BundlePayload): string[] {
  const problems: string[] = []
  const epochs = bundle.authorities.map((authority) => authority.epoch)
  if (new Set(epochs).size !== epochs.length)
    problems.push(`authorities: one epoch twice in ${epochs.join(', ')}`)
  if (epochs.length > MAX_AUTHORITIES) {
    problems.push(`authorities: expected at most ${MAX_AUTHORITIES}, found ${epochs.length}`)
  }
  if (bundle.roots.length === 0) problems.push('roots: expected at least one, found none')
  const signing = bundle.authorities.filter((authority) => authority.status === 'active')
  if (signing.length !== 1 || signing[0]?.epoch !== bundle.epoch) {
    const found = signing.map((authority) => authority.epoch).join(', ') || 'none'
    problems.push(`authorities: expected epoch ${bundle.epoch} and no other to be active, found ${found}`)
  }
  return problems
}

export const clip = (text: string, length = MAX_REASON): string =>
  text.length <= length ? text : `${text.slice(0, length - 3)}...`
