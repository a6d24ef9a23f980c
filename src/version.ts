/** What we call ourselves in status records and connection names. */
import { createRequire } from 'node:module'

const load = createRequire(import.meta.url)

/** package.json is one level up in the sources and two in `dist`. */
function packageVersion(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const found = load(path) as { name?: string; version?: string }
      if (found.name === 'nats-rotor' && found.version !== undefined) return found.version
    } catch {}
  }
  return '0.0.0'
}

export const VERSION: string = packageVersion()
export const SOFTWARE = `nats-rotor/${VERSION}`
