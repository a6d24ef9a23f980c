/** How does a generation come to be, how is it read, and how does it go? One complete, immutable folder each. */
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { formatInstant, type Instant } from '../time.ts'
import type { Certificate } from '../trust/certificate.ts'
import { decodeRecord, describeIssues } from '../wire/record.ts'
import { cleaningUp, fsyncDir, writeFileDurable, writing } from './durable.ts'
import { type KeyAccess, readMaterialFiles, readText } from './files.ts'
import {
  byAge,
  FILES,
  generationName,
  isUnfinished,
  MANIFEST,
  MATERIAL_FILES,
  parseGenerationName,
  unfinishedName,
} from './layout.ts'
import {
  assertUnchanged,
  contentOf,
  type GenerationManifest,
  generationManifest,
  hashesOf,
} from './manifest.ts'
import { type CheckOptions, checkMaterial, type IdentityMaterial, parseMaterial } from './material.ts'
import type { Trace } from './steps.ts'

/** What a generation is made for: the bundle and the authority of its leaf. */
export interface GenerationFacts {
  /** Version of the bundle; 0 when there is none yet. */
  readonly version: number
  /** SHA-256 of its payload. */
  readonly digest: string
  /** Epoch of the authority that issued the leaf. */
  readonly epoch: number
}

export interface WriteOptions extends CheckOptions {
  readonly trace: Trace
  /** The last name this owner gave to a generation of the version: names do not come back. @default null */
  readonly last?: string | null
}

/**
 * Writes a complete generation into `folder` (`generations/`), reads it back from there and checks it, and only
 * then gives it its name, which it returns. Throws what `checkMaterial` throws, or ERR_IDENTITY_WRITE; nothing is
 * left behind then.
 */
export async function writeGeneration(
  folder: string,
  material: IdentityMaterial,
  facts: GenerationFacts,
  now: Instant,
  options: WriteOptions,
): Promise<string> {
  const { leaf } = parseMaterial(material)
  const manifest = makeManifest(facts, material, leaf, now)
  const unfinished = join(folder, unfinishedName('generation'))
  return await cleaningUp(unfinished, async () => {
    await writing(unfinished, () => mkdir(unfinished, 0o700))
    options.trace('stage:folder')
    const content = contentOf(material)
    for (const file of MATERIAL_FILES) {
      await writeFileDurable(join(unfinished, file), content[file], file === FILES.key ? 0o600 : 0o644)
      options.trace(`stage:${file}`)
    }
    await writeFileDurable(join(unfinished, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, 0o644)
    await fsyncDir(unfinished)
    options.trace('stage:manifest.json')
    checkMaterial((await readGeneration(unfinished, 'owner')).material, now, options)
    options.trace('stage:checked')
    const given = options.last == null ? [] : [options.last]
    const name = nextName([...(await listGenerations(folder)), ...given], facts.version)
    await writing(join(folder, name), () => rename(unfinished, join(folder, name)))
    await cleaningUp(join(folder, name), () => fsyncDir(folder))
    options.trace('stage:named')
    return name
  })
}

function makeManifest(
  facts: GenerationFacts,
  material: IdentityMaterial,
  leaf: Certificate,
  now: Instant,
): GenerationManifest {
  const manifest = generationManifest.safeParse({
    v: 1,
    ...facts,
    leaf: leaf.sha256,
    notAfter: formatInstant(leaf.notAfter),
    createdAt: formatInstant(now),
    files: hashesOf(material),
  })
  if (!manifest.success) throw new TypeError(`facts of a generation: ${describeIssues(manifest.error)}`)
  return manifest.data
}

/**
 * One more than the largest number of this version. The newest generation is never removed, and the owner remembers
 * the names it gave, so a name does not come back with other content.
 */
function nextName(names: readonly string[], version: number): string {
  const used = names.map(parseGenerationName).filter((name) => name?.version === version)
  return generationName({ version, n: Math.max(0, ...used.map((name) => name?.n ?? 0)) + 1 })
}

export interface StoredGeneration {
  readonly material: IdentityMaterial
  readonly manifest: GenerationManifest
}

/**
 * A generation as it is on disk, whatever the time is. Throws ERR_IDENTITY_MISSING for a file that is not there,
 * ERR_IDENTITY_INVALID for content that is not what was written, ERR_IDENTITY_MODE for a key that others may read.
 */
export async function readGeneration(path: string, access: KeyAccess): Promise<StoredGeneration> {
  const manifestPath = join(path, MANIFEST)
  const text = await readText(manifestPath)
  const manifest = decodeRecord(generationManifest, text, manifestPath, 'ERR_IDENTITY_INVALID')
  const material = await readMaterialFiles(path, access)
  assertUnchanged(manifest, material, path)
  return { material, manifest }
}

/** Names of the generations in `folder`, oldest first. Other names are passed over. */
export async function listGenerations(folder: string): Promise<string[]> {
  const entries = await writing(folder, () => readdir(folder, { withFileTypes: true }))
  return entries
    .filter((entry) => entry.isDirectory() && parseGenerationName(entry.name) !== null)
    .map((entry) => entry.name)
    .sort(byAge)
}

/** Removes a generation: it loses its name in one step, so that half a one is never taken for a whole one. */
export async function removeGeneration(path: string, trace: Trace): Promise<void> {
  const unnamed = join(dirname(path), unfinishedName('removed'))
  await writing(path, () => rename(path, unnamed))
  trace('prune:unnamed')
  await removeTree(unnamed)
  trace('prune:removed')
}

/** Removes what a crash left in `folder`: everything unfinished. */
export async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await writing(folder, () => readdir(folder))) {
    if (isUnfinished(name)) await removeTree(join(folder, name))
  }
}

async function removeTree(path: string): Promise<void> {
  await writing(path, () => rm(path, { recursive: true, force: true }))
}
