/** Imports of the real code that lead elsewhere in a test. To be called before that code is loaded. */
import { registerHooks } from 'node:module'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** File of the product -> import in it -> module, relative to `base`. Other importers are left alone. */
export function redirect(
  ways: Readonly<Record<string, Readonly<Record<string, string>>>>,
  base: string,
): void {
  registerHooks({
    resolve(specifier, context, next) {
      const { parentURL = '' } = context
      if (!parentURL.startsWith('file:')) return next(specifier, context)
      const file = fileURLToPath(parentURL)
      const to = file.startsWith(ROOT) ? ways[file.slice(ROOT.length)]?.[specifier] : undefined
      return next(to === undefined ? specifier : new URL(to, base).href, context)
    },
  })
}
