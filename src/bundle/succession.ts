/**
 * How does a node that only knows an old signer come to know the present one? Every bundle carries who vouched for whom:
 * a link names the next signer and is signed by the one before and by itself, as a root of TUF is (TUF 5.3). So a bundle
 * stays full state: whoever slept through changes of the signer verifies the newest one, without those between.
 */
import { z } from 'zod'
import { MAX_LINK, MAX_LINKS, type SignerKey, signerKey } from '../wire/bundle.ts'
import { decodeRecord } from '../wire/record.ts'
import { openEnvelope, signText } from './envelope.ts'
import { isSignerKey, type Signer } from './signer.ts'

/** `typ` of the JWS: a link is never taken for a bundle. */
const TYP = 'rotor-signer+json'

const link = z.object({
  v: z.literal(1),
  domain: z.string(),
  from: signerKey,
  key: signerKey,
})
type Link = z.infer<typeof link>

/** Characters of all links. Those of Ed25519 have 1,100, those of ML-DSA-65 20,000; an agent takes 256 KiB of bundle. */
const MAX_SUCCESSION = 64 * 1024

/** The word of `from` for `to`, as text for `succession` of a bundle. */
export async function vouch(domain: string, from: Signer, to: Signer): Promise<string> {
  const words: Link = { v: 1, domain, from: from.key, key: to.key }
  return Buffer.from(await signText(JSON.stringify(words), [from, to], TYP)).toString('utf8')
}

/** With one link more; the oldest ones leave when there is no room. Who knows only those has to join again. */
export function extended(succession: readonly string[], added: string): string[] {
  const links = [...succession, added].slice(-MAX_LINKS)
  while (links.length > 1 && links.join('').length > MAX_SUCCESSION) links.shift()
  return links
}

/** Without the links that lead to these keys: they were taken back. */
export const withoutLinksTo = (succession: readonly string[], kids: ReadonlySet<string>): string[] =>
  succession.filter((text) => !kids.has(readLink(text).words.key.kid))

/**
 * `known`, and everyone whom one of them vouched for. Nothing else in the bundle counts for that, so it may be anybody's.
 * Throws ERR_BUNDLE_MALFORMED for what is no link.
 */
export async function followed(
  { domain, succession = [] }: Succession,
  known: readonly SignerKey[],
): Promise<SignerKey[]> {
  const trusted = new Map(known.map((key) => [key.kid, key]))
  for (const text of succession) {
    const { envelope, words } = readLink(text)
    const from = trusted.get(words.from.kid)
    if (from === undefined || words.domain !== domain || !isSignerKey(words.key)) continue
    if ((await envelope.verify(from)) && (await envelope.verify(words.key))) {
      trusted.set(words.key.kid, words.key)
    }
  }
  return [...trusted.values()]
}

/** Who was a signer before, by the links of a bundle that is known to be ours. */
export const formerSigners = ({ succession = [] }: Pick<Succession, 'succession'>): SignerKey[] =>
  succession.map((text) => readLink(text).words.from).filter(isSignerKey)

export interface Succession {
  readonly domain: string
  readonly succession?: readonly string[] | undefined
}

function readLink(text: string) {
  const bytes = Buffer.from(text.slice(0, MAX_LINK), 'utf8')
  const envelope = openEnvelope(bytes, TYP)
  return {
    envelope,
    words: decodeRecord(link, envelope.payload, 'bundle succession', 'ERR_BUNDLE_MALFORMED'),
  }
}
