/** A server that will not follow: its configuration is led to copies of its files, which nobody renews. */
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LocalDomain } from '../demo/domain.ts'

export type PinnedFile = 'ca.pem' | 'tls.crt' | 'tls.key'

/** Of every server. One that runs does not know it before its next reload. */
export async function pinFiles(domain: LocalDomain, files: readonly PinnedFile[]): Promise<void> {
  for (const { name } of domain.plans) {
    const folder = join(domain.dir, 'servers', name)
    for (const config of ['nats-server.conf', 'server.conf'].map((file) => join(folder, file))) {
      let text = await readFile(config, 'utf8')
      for (const file of files) {
        const copy = join(folder, `pinned-${file}`)
        await cp(join(domain.dir, 'agents', name, 'identity', file), copy, { dereference: true })
        const path = new RegExp(`"[^"\\n]*/${file.replace('.', '\\.')}"`, 'g')
        text = text.replaceAll(path, JSON.stringify(copy))
      }
      await writeFile(config, text)
    }
  }
}
