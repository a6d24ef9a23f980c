/** The setup as an operator would type it: `bao` commands (or `vault`, they are the same) and the policy. Pure. */
import type { SetupItem } from './setup.ts'

/** One command for each item; what is no plain value is given as JSON on standard input. */
export function setupCommands(items: readonly SetupItem[]): string {
  return items.map((item) => `# ${item.what}\n${command(item)}`).join('\n\n')
}

function command({ write: { path, data } }: SetupItem): string {
  if (typeof data.policy === 'string') {
    return `bao policy write ${path.split('/').at(-1)} - <<'EOF'\n${data.policy.trimEnd()}\nEOF`
  }
  return `bao write ${path} - <<'EOF'\n${JSON.stringify(data, null, 2)}\nEOF`
}
