/** The demo on a terminal: one table that is drawn again, or plain lines where there is none. */

import type { Progress } from '../demo/progress.ts'
import { formatDuration } from '../src/time.ts'
import { colour, table } from './output.ts'

/** The whole screen as text. */
export function renderScreen(progress: Progress, goal: number, elapsed: number): string {
  const { core, jetstream, requests } = progress.flows
  const rows = [...progress.nodes.values()].map((node) => {
    const counts = node.counts
    const numbers =
      counts === null
        ? ['', '', '', '']
        : [
            String(counts.core.published + counts.jetstream.published),
            String(counts.core.received + counts.jetstream.received),
            count(progress.lostBy(node.name)),
            count(counts.core.duplicated + counts.jetstream.duplicated),
          ]
    const fresh = node.version >= progress.version
    return [
      node.name,
      node.role,
      fresh ? colour('green', String(node.version)) : colour('yellow', String(node.version)),
      `epoch ${node.epoch}`,
      node.step === 'idle' ? colour('dim', 'idle') : colour('cyan', node.step),
      ...numbers,
    ]
  })
  return `${colour('bold', 'nats-rotor demo')}  a live NATS cluster changes its CA under traffic   ${seconds(elapsed)}
bundle ${progress.version}   rotations ${progress.rotations}${goal > 0 ? ` of ${goal}` : ''}${progress.waits.length === 0 ? '' : colour('yellow', `   waits for ${progress.waits.join(', ')}`)}

${table([['NODE', 'ROLE', 'BUNDLE', 'SERVES', 'LAST STEP', 'SENT', 'RECEIVED', 'MISSING', 'TWICE'], ...rows])}

JetStream  published ${jetstream.published}  received ${jetstream.received}  duplicated ${count(jetstream.duplicated)}
core       published ${core.published}  received ${core.received}  duplicated ${count(core.duplicated)}  reordered ${count(core.reordered)}
requests   sent ${requests.sent}  failed ${count(requests.failed)}
${colour('dim', 'MISSING counts what is on its way, too. Ctrl-C stops everything and removes it.')}`
}

/** One line for one thing that happened, or null when a reader of lines need not know. */
export function renderLine(
  event: { readonly type: string } & Readonly<Record<string, unknown>>,
  elapsed: number,
): string | null {
  const at = seconds(elapsed).padStart(7)
  if (event.type === 'commit' && event.when === 'after')
    return `${at}  bundle ${String(event.version)}: ${String(event.reason)}`
  if (event.type === 'applied')
    return `${at}  ${String(event.node)} is proven on bundle ${String(event.version)}, leaf of epoch ${String(event.epoch)}, after ${formatDuration(Number(event.tookMs))}`
  if (event.type === 'rolled-back')
    return `${at}  ${String(event.node)} put bundle ${String(event.version)} back: ${String(event.message)}`
  if (event.type === 'phase') return `${at}  ${String(event.text)}`
  return null
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)}s`
const count = (n: number): string => (n === 0 ? colour('green', '0') : colour('yellow', String(n)))
