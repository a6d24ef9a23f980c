/**
 * Where things are in an identity directory.
 *
 *   state.json                   highest accepted bundle, pinned signers
 *   generations/<version>-<n>/   ca.pem  tls.crt  tls.key  manifest.json: complete, then never changed
 *   current -> generations/...   the one link that moves
 *   ca.pem, tls.crt, tls.key     links through current/: the paths servers and services are configured with
 *   join.key                     only while a join is under way: the key it asks for
 *   lock/                        one file for each process that has, or wants, the directory
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

/** What the three files are called; a path is taken relative to the directory. */
export interface FileNames {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

/** Names of the three files, in a generation and in the directory itself. */
export const FILES = { ca: 'ca.pem', certificate: 'tls.crt', key: 'tls.key' } as const satisfies FileNames
/** The trust file of a Kubernetes secret of type kubernetes.io/tls as cert-manager writes it. */
export const SECRET_CA = 'ca.crt'
export type MaterialFile = (typeof FILES)[keyof typeof FILES]
export const MATERIAL_FILES: readonly MaterialFile[] = [FILES.ca, FILES.certificate, FILES.key]

export const MANIFEST = 'manifest.json'
export const CURRENT = 'current'
export const GENERATIONS = 'generations'
export const STATE = 'state.json'
export const LOCK = 'lock'
export const JOIN_KEY = 'join.key'

/** Everything unfinished starts with this and is removed at the next start. */
const UNFINISHED = '.tmp-'
export const isUnfinished = (name: string): boolean => name.startsWith(UNFINISHED)
/** A name nobody else uses. */
export const unfinishedName = (what: string): string =>
  `${UNFINISHED}${what}-${randomBytes(6).toString('hex')}`

/** Where the public link of a file points to, relative to the directory. */
export const publicTarget = (file: MaterialFile): string => join(CURRENT, file)
/** Where `current` points to, relative to the directory. */
export const currentTarget = (generation: string): string => join(GENERATIONS, generation)

interface GenerationName {
  /** Version of the bundle it was made for. */
  readonly version: number
  /** 1, 2, ... for each try of the same version. */
  readonly n: number
}

export const generationName = ({ version, n }: GenerationName): string => `${version}-${n}`

/** Null for a name that is none of ours. */
export function parseGenerationName(name: string): GenerationName | null {
  const match = /^(0|[1-9]\d{0,15})-([1-9]\d{0,15})$/.exec(name)
  return match === null ? null : { version: Number(match[1]), n: Number(match[2]) }
}

/** Oldest first. Both must be names of generations. */
export function byAge(a: string, b: string): number {
  const [left, right] = [parseGenerationName(a), parseGenerationName(b)]
  if (left === null || right === null) throw new TypeError(`expected names of generations: ${a}, ${b}`)
  return left.version - right.version || left.n - right.n
}
