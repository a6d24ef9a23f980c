/** What is in a generation, and is it still what was written? */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { RotorError } from '../errors.ts'
import { instantText, sha256Hex } from '../wire/bundle.ts'
import { FILES, MATERIAL_FILES, type MaterialFile } from './layout.ts'
import type { IdentityMaterial } from './material.ts'

export const generationManifest = z.object({
  v: z.literal(1),
  /** Version of the bundle it was made for; 0 when made before the first bundle. */
  version: z.int().nonnegative(),
  /** SHA-256 of the payload of that bundle. */
  digest: sha256Hex,
  /** Epoch of the authority that issued the leaf. */
  epoch: z.int(),
  /** SHA-256 of the leaf in DER. */
  leaf: sha256Hex,
  notAfter: instantText,
  createdAt: instantText,
  /** SHA-256 of the files. */
  files: z.object({ [FILES.ca]: sha256Hex, [FILES.certificate]: sha256Hex, [FILES.key]: sha256Hex }),
})

export type GenerationManifest = z.infer<typeof generationManifest>

export const contentOf = (material: IdentityMaterial): Readonly<Record<MaterialFile, string>> => ({
  [FILES.ca]: material.ca,
  [FILES.certificate]: material.certificate,
  [FILES.key]: material.key,
})

export function hashesOf(material: IdentityMaterial): GenerationManifest['files'] {
  const { ca, certificate, key } = material
  return { [FILES.ca]: sha256(ca), [FILES.certificate]: sha256(certificate), [FILES.key]: sha256(key) }
}

/** Throws ERR_IDENTITY_INVALID naming the first file of `folder` that is not the one the manifest was made for. */
export function assertUnchanged(
  manifest: GenerationManifest,
  material: IdentityMaterial,
  folder: string,
): void {
  const found = hashesOf(material)
  for (const file of MATERIAL_FILES) {
    if (found[file] !== manifest.files[file]) {
      throw new RotorError(
        'ERR_IDENTITY_INVALID',
        `${folder}/${file}: the content is not what its manifest was made for`,
        { details: { path: `${folder}/${file}` } },
      )
    }
  }
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
