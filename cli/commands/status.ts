/** `rotor status`: one screen that shows who has what. */
import type { Command } from 'commander'
import { formatReading, surelyOff } from '../../src/clock-reading.ts'
import { asOperator } from '../../src/domain/operator.ts'
import { gatherOverview, type Overview } from '../../src/domain/overview.ts'
import { sleep } from '../../src/time.ts'
import { type AgentStatus, SILENT } from '../../src/wire/status.ts'
import { signalOfProcess } from '../daemon.ts'
import { colour, makeOutput, relative, table } from '../output.ts'
import { censusLines } from './census.ts'

interface StatusOptions {
  readonly config: string
  readonly watch: boolean
  readonly json: boolean
}

const REFRESH = 1000

export function addStatus(program: Command): void {
  program
    .command('status')
    .summary('show who has which bundle and leaf, and whom the rotation waits for')
    .description(
      'Shows phase, authorities, every agent with its bundle version and leaf, and whom the rotation waits for. Ends with 1 when it waits for somebody or the issuer can not work.',
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--watch', 'show it again every second until stopped', false)
    .option('--json', 'print JSON; with --watch one line each time', false)
    .action(async (options: StatusOptions) => {
      const output = makeOutput(options.json)
      const { signal, forget } = signalOfProcess()
      try {
        await asOperator(options.config, async ({ config, names, nc }) => {
          for (;;) {
            const overview = await gatherOverview(nc, names, config, Date.now())
            if (options.watch && !options.json && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J')
            output.answer(overview, renderOverview(overview))
            if (!options.watch) {
              process.exitCode = overview.waitingFor.length === 0 && overview.problem === null ? 0 : 1
              return
            }
            await sleep(REFRESH, signal)
          }
        })
      } catch (cause) {
        if (!signal.aborted) throw cause
      } finally {
        forget()
      }
    })
}

const STATUS_COLOUR = { active: 'green', prepared: 'cyan', retiring: 'dim', tainted: 'red' } as const

export function renderOverview(o: Overview): string {
  const authorities = o.authorities
    .map((a) => colour(STATUS_COLOUR[a.status], `${a.epoch} ${a.status}`))
    .join(', ')
  const head = `${colour('bold', `trust domain ${o.domain}`)}  bundle ${o.version}  ${o.phase}${o.ordered ? ' (ordered)' : ''}
authorities: ${authorities}; the bundle is fresh until ${o.expiresAt}${o.roots.length === 1 ? '' : `; ${o.roots.length} roots`}`
  const rows = o.agents.map(({ name, role, status }) => agentRow(o, name, role, status))
  const nodes = table([
    ['NODE', 'ROLE', 'BUNDLE', 'LEAF', 'LEAF ENDS', 'CLOCK', 'STATE', 'EVIDENCE'],
    ...rows,
  ])
  const servers = o.servers.flatMap((s) =>
    s.agent === null ? [`server ${s.name}: ${colour('red', 'no agent beside it')}`] : [],
  )
  const census = censusLines(o.census)
  const waits =
    o.waitingFor.length === 0
      ? `${colour('green', 'nobody is waited for')} (${o.reason})`
      : [
          colour('yellow', `waits (${o.reason})${o.since === null ? '' : ` since ${o.since}`} for:`),
          ...o.waitingFor.map((w) => `  ${w.kind} ${colour('bold', w.name)}: ${w.missing}`),
        ].join('\n')
  const rebuilt =
    o.rebuilt === null
      ? []
      : [
          colour(
            'yellow',
            `the records were lost: rebuilt at ${o.rebuilt.at} from the kept bundle ${o.rebuilt.version}`,
          ),
        ]
  const stopped =
    o.paused === null
      ? []
      : [
          colour(
            'yellow',
            `paused by ${o.paused.by} at ${o.paused.at}: ${o.paused.reason}; rotor resume ends it`,
          ),
        ]
  const problem =
    o.problem === null
      ? []
      : [
          colour(
            'red',
            `the issuer can not work since ${o.problem.since}: ${o.problem.code} ${o.problem.message}`,
          ),
        ]
  return [
    head,
    ...leader(o),
    ...rebuilt,
    ...stopped,
    ...o.tainted.map((taint) => colour('red', taintInWords(taint))),
    ...problem,
    '',
    nodes,
    ...(servers.length === 0 ? [] : ['', ...servers]),
    ...(census.length === 0 ? [] : ['', ...census]),
    '',
    waits,
  ].join('\n')
}

/** One line where there is more than one issuer, or none that leads. */
function leader({ lease, agents, at }: Overview): string[] {
  const issuers = agents.filter(({ role }) => role === 'issuer')
  if (lease === null || (issuers.length < 2 && lease.holder !== null)) return []
  const others = issuers.filter(({ name }) => name !== lease.holder)
  const standBy = others.map(({ name, status }) => {
    if (status === null) return colour('yellow', `${name} never reported`)
    const silent = at - Date.parse(status.at) > SILENT
    return silent
      ? colour('yellow', `${name} was seen last at ${status.at}`)
      : `${name} stands by since ${status.started}`
  })
  const leads =
    lease.holder === null
      ? colour('yellow', `no issuer leads since ${lease.since}`)
      : `issuer ${colour('bold', lease.holder)} leads since ${lease.since} (fence ${lease.fence})`
  return [[leads, ...standBy].join('; ')]
}

function taintInWords({ epoch, by, reason, removed }: Overview['tainted'][number]): string {
  const where =
    removed === null
      ? 'in trust until nobody stands on it'
      : `out of trust since ${removed.at}, not yet seen refused everywhere`
  const left =
    removed === null || removed.cutOff.length === 0 ? '' : `; cut off: ${removed.cutOff.join(', ')}`
  return `epoch ${epoch} is tainted by ${by}: ${reason}; ${where}${left}`
}

function agentRow(
  o: Overview,
  name: string,
  role: string,
  status: Overview['agents'][number]['status'],
): string[] {
  if (status === null) return [name, role, colour('red', 'never reported')]
  const version = String(status.version)
  const epoch = String(status.leaf.issuerEpoch)
  const error =
    status.lastError === null
      ? ''
      : colour('red', `${status.lastError.code} at version ${status.lastError.version}`)
  return [
    name,
    role,
    status.version >= o.version ? version : colour('yellow', version),
    status.leaf.issuerEpoch === o.active ? `epoch ${epoch}` : colour('yellow', `epoch ${epoch}`),
    relative(Date.parse(status.leaf.notAfter), o.at),
    clockOf(o, status),
    status.state === 'applied'
      ? 'applied'
      : colour(
          status.state === 'applying' ? 'cyan' : 'red',
          `${status.state} ${status.step === 'idle' ? '' : status.step}`.trim(),
        ),
    error ||
      [...status.targets.map((t) => `${t.type} ${t.ok ? 'ok' : 'failed'}`), ...standing(status)].join(', '),
  ]
}

/** Against the issuer that leads, and how sure that is. */
function clockOf({ lead }: Overview, { clockOffsetMs, clockBoundMs }: AgentStatus): string {
  if (clockOffsetMs === null) return ''
  const reading = { offsetMs: clockOffsetMs, boundMs: clockBoundMs }
  const text = formatReading(reading)
  return surelyOff(reading) < lead ? text : colour('red', text)
}

/** What still stands on leaves of the past, for each authority: `3 sockets on epoch 7`. */
function standing({ usage }: AgentStatus): string[] {
  const byEpoch = Map.groupBy(usage, ({ issuerEpoch }) => issuerEpoch)
  return [...byEpoch].map(([epoch, entries]) => {
    const sockets = entries.reduce((sum, entry) => sum + entry.sockets, 0)
    const where = epoch === null ? 'an unknown leaf' : `epoch ${epoch}`
    return colour('yellow', `${sockets} ${sockets === 1 ? 'socket' : 'sockets'} on ${where}`)
  })
}
