/**
 * Is the history of a domain whole? Every bundle is judged as an agent would have judged it at its time, and what is
 * stored in several places has to be the same in all of them. Pure: what was read goes in, findings come out.
 */
import { type AcceptedBundle, acceptBundle } from '../bundle/accept.ts'
import { openEnvelope } from '../bundle/envelope.ts'
import { payloadDigest } from '../bundle/payload.ts'
import { formerSigners } from '../bundle/succession.ts'
import { RotorError } from '../errors.ts'
import { formatInstant, type Instant } from '../time.ts'
import { type BundlePayload, bundlePayload, type SignerKey } from '../wire/bundle.ts'
import { decodeRecord } from '../wire/record.ts'

/** A message on the bundle stream. */
export interface StreamMessage {
  readonly sequence: number
  readonly data: Uint8Array
}

export interface HistoryMaterial {
  readonly domain: string
  /** In the order of the stream; null when it was not read. `messages` has every message from `first` to `last` that is there. */
  readonly stream: {
    readonly messages: readonly StreamMessage[]
    readonly first: number
    readonly last: number
    /** As many as the stream keeps. */
    readonly limit: number
  } | null
  /** Bundles beside the keys, lowest version first; null when they were not read. */
  readonly kept: readonly { readonly version: number; readonly data: Uint8Array }[] | null
  /** The first bundle as the issuer has it from the founding. */
  readonly genesis: Uint8Array
  /** Thumbprints of the signers that are believed. @default those of `genesis` */
  readonly signers?: readonly string[] | undefined
  /** The version from which on the history has to be whole. @default 1 */
  readonly since?: number | undefined
  readonly now: Instant
}

export interface HistoryEntry {
  readonly version: number
  readonly payload: BundlePayload
  readonly digest: string
  /** Sequence on the stream; null when it is kept only. */
  readonly sequence: number | null
  readonly kept: boolean
  /** One copy of it at least is as it has to be. */
  readonly verified: boolean
}

/** Something that is not as it has to be. */
export interface Finding {
  /** Where: `stream message 7`, `kept bundle 5`, `version 5`, `genesis.jws`. */
  readonly where: string
  readonly problem: string
}

interface Read {
  readonly where: string
  readonly data: Uint8Array
  readonly payload: BundlePayload
  readonly digest: string
  /** Sequence on the stream; null for a kept one. */
  readonly sequence: number | null
}

/** What there is, by version, lowest first; for a version that differs, what verifies or else what the stream has. */
export async function readHistory(
  material: HistoryMaterial,
): Promise<{ readonly entries: readonly HistoryEntry[]; readonly findings: readonly Finding[] }> {
  const findings: Finding[] = []
  const stream = readStream(material, findings)
  const kept = readKept(material, findings)
  if (material.stream !== null && material.kept !== null) compare(stream, kept, findings)
  const entries = await readChain(material, [...stream, ...kept], findings)
  return { entries, findings }
}

/** One copy of a bundle, or a finding. */
function read(where: string, data: Uint8Array, sequence: number | null, findings: Finding[]): Read | null {
  try {
    const bytes = openEnvelope(data).payload
    const payload = decodeRecord(bundlePayload, bytes, 'bundle', 'ERR_BUNDLE_MALFORMED')
    return { where, data, payload, digest: payloadDigest(bytes), sequence }
  } catch (cause) {
    findings.push({ where, problem: `no bundle: ${RotorError.from(cause).message}` })
    return null
  }
}

/** In the stream versions rise by one, and no number of a message is missing. */
function readStream({ stream, since = 1 }: HistoryMaterial, findings: Finding[]): Read[] {
  if (stream === null) return []
  const { messages, first, last, limit } = stream
  const there = new Set(messages.map(({ sequence }) => sequence))
  for (let sequence = first; sequence <= last; sequence++) {
    if (!there.has(sequence))
      findings.push({ where: `stream message ${sequence}`, problem: 'it was deleted' })
  }
  if (first > 1 && last - first + 1 < limit) {
    findings.push({
      where: `stream message ${first - 1}`,
      problem: 'it and those before were deleted: the stream has room',
    })
  }
  const read = messages.flatMap(({ sequence, data }) => readOne(sequence, data, findings) ?? [])
  let newest: Read | null = null
  for (const [i, one] of read.entries()) {
    const { version } = one.payload
    if (newest === null) {
      if (version > since && last - first + 1 < limit) {
        findings.push({
          where: one.where,
          problem: `the stream begins with version ${version}, expected ${since}; after the loss of a stream say --since ${version}`,
        })
      }
    } else if (version <= newest.payload.version) {
      // an issuer repeats the newest one when somebody published on top of it
      const repaired = one.digest === newest.digest && read[i - 1] !== newest
      if (!repaired)
        findings.push({
          where: one.where,
          problem: `version ${version} again, after ${newest.payload.version}`,
        })
    } else if (version > newest.payload.version + 1) {
      findings.push({ where: one.where, problem: `version ${version} follows ${newest.payload.version}` })
    }
    if (newest === null || version > newest.payload.version) newest = one
  }
  return read
}

const readOne = (sequence: number, data: Uint8Array, findings: Finding[]): Read | null =>
  read(`stream message ${sequence}`, data, sequence, findings)

/** Kept bundles have no gap, and each is what its name says. Old ones are forgotten from below. */
function readKept({ kept }: HistoryMaterial, findings: Finding[]): Read[] {
  const all = (kept ?? []).flatMap(({ version, data }) => {
    const one = read(`kept bundle ${version}`, data, null, findings)
    if (one !== null && one.payload.version !== version) {
      findings.push({ where: one.where, problem: `it has version ${one.payload.version}` })
      return []
    }
    return one ?? []
  })
  const versions = (kept ?? []).map(({ version }) => version)
  for (const [i, version] of versions.slice(1).entries()) {
    const before = versions[i] ?? version
    for (let missing = before + 1; missing < version; missing++) {
      findings.push({ where: `kept bundle ${missing}`, problem: 'it is missing' })
    }
  }
  return all
}

/** A bundle is kept before it is published, byte by byte; only the newest one may not be on the stream yet. */
function compare(stream: readonly Read[], kept: readonly Read[], findings: Finding[]): void {
  const published = new Map(stream.map((one) => [one.payload.version, one]))
  const newest = Math.max(0, ...published.keys())
  const oldest = Math.min(...published.keys())
  const versions = new Set(kept.map(({ payload }) => payload.version))
  for (const { where, data, payload } of kept) {
    const other = published.get(payload.version)
    if (other === undefined && payload.version > oldest && payload.version !== newest + 1) {
      findings.push({ where, problem: 'the stream does not have it' })
    } else if (other !== undefined && Buffer.compare(other.data, data) !== 0) {
      findings.push({ where, problem: `it is not the one of ${other.where}` })
    }
  }
  // version 1 is in genesis.jws, and published without being kept again where the issuer began so
  const first = Math.min(...versions)
  for (const [version, { where }] of published) {
    if (version > first && !versions.has(version))
      findings.push({ where, problem: `version ${version} is not kept` })
  }
}

/** The chain by version. What does not verify is told and passed over; the next one is judged by what did. */
async function readChain(
  material: HistoryMaterial,
  all: readonly Read[],
  findings: Finding[],
): Promise<HistoryEntry[]> {
  const versions = [...new Set(all.map(({ payload }) => payload.version))].sort((a, b) => a - b)
  const entries: HistoryEntry[] = []
  let before: AcceptedBundle | null = null
  for (const version of versions) {
    const copies = all.filter((one) => one.payload.version === version)
    const judged: (AcceptedBundle | null)[] = []
    for (const copy of copies) judged.push(await judge(copy, before, material, findings))
    const good = judged.find((one) => one !== null) ?? null
    const shown = copies[judged.findIndex((one) => one === good && good !== null)] ?? copies[0]
    if (shown === undefined) continue
    entries.push({
      version,
      payload: shown.payload,
      digest: shown.digest,
      sequence: copies.find(({ sequence }) => sequence !== null)?.sequence ?? null,
      kept: copies.some(({ sequence }) => sequence === null),
      verified: good !== null,
    })
    if (good !== null) {
      if (before !== null) assertOrder(before.payload, good.payload, findings)
      before = good
    }
  }
  const newest = before?.payload
  if (newest !== undefined && Date.parse(newest.issuedAt) > material.now + newest.schedule.lead) {
    findings.push({
      where: `version ${newest.version}`,
      problem: `issued at ${newest.issuedAt}, now is ${formatInstant(material.now)}`,
    })
  }
  if (entries.length === 0)
    findings.push({ where: 'history', problem: `expected bundles of ${material.domain}, found none` })
  return entries
}

/** As an agent that held the one before would have judged it, at the time it was issued. */
async function judge(
  { payload, data, where, digest }: Read,
  before: AcceptedBundle | null,
  material: HistoryMaterial,
  findings: Finding[],
): Promise<AcceptedBundle | null> {
  try {
    if (payload.version === 1) assertGenesis(digest, material.genesis)
    await assertForm(data, payload)
    return await acceptBundle(data, {
      domain: material.domain,
      pinned: before?.signers ?? anchors(payload, material),
      highest: before?.payload.version ?? 0,
      held:
        before === null
          ? null
          : { version: before.payload.version, digest: before.digest, roots: before.payload.roots },
      now: Date.parse(payload.issuedAt),
    })
  } catch (cause) {
    const { code, message } = RotorError.from(cause)
    findings.push({ where, problem: `${code}: ${message}` })
    return null
  }
}

/** As the issuer writes it: a signature that nobody needs, or a space, is a change as well. */
async function assertForm(data: Uint8Array, { version, signers }: BundlePayload): Promise<void> {
  const refuse = (problem: string) => new RotorError('ERR_BUNDLE_SIGNATURE', `version ${version}: ${problem}`)
  const envelope = openEnvelope(data)
  if (!envelope.canonical) throw refuse('it is not written as an issuer writes it')
  for (const key of signers) {
    if (!(await envelope.verify(key))) throw refuse(`expected a signature by its signer ${key.kid}`)
  }
  const stranger = envelope.kids.find((kid) => !signers.some((key) => key.kid === kid))
  if (stranger !== undefined) throw refuse(`found a signature by ${stranger}, which is no signer of it`)
}

function assertGenesis(digest: string, genesis: Uint8Array): void {
  const expected = payloadDigest(openEnvelope(genesis).payload)
  if (digest === expected) return
  throw new RotorError(
    'ERR_BUNDLE_FORKED',
    `version 1: expected the one of genesis.jws (${expected}), found ${digest}`,
  )
}

/** Whom the first bundle that is there has to be signed by, itself or through its links. */
function anchors(payload: BundlePayload, { genesis, signers }: HistoryMaterial): readonly SignerKey[] {
  const first = decodeRecord(
    bundlePayload,
    openEnvelope(genesis).payload,
    'genesis.jws',
    'ERR_BUNDLE_MALFORMED',
  )
  if (signers === undefined) return first.signers
  const named = [...first.signers, ...payload.signers, ...formerSigners(payload)]
  return named.filter(({ kid }) => signers.includes(kid))
}

/** Two issuers' clocks may differ by `lead`, no more: else nothing of ours moves. */
function assertOrder(
  before: BundlePayload,
  { version, issuedAt, schedule }: BundlePayload,
  findings: Finding[],
): void {
  if (Date.parse(issuedAt) + schedule.lead >= Date.parse(before.issuedAt)) return
  findings.push({
    where: `version ${version}`,
    problem: `issued at ${issuedAt}, before version ${before.version} at ${before.issuedAt}`,
  })
}
