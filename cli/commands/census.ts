/** `rotor census`: who still depends on what? Asks the servers now, whether an issuer runs or not. */
import { type Command, InvalidArgumentError } from 'commander'
import { countConnections } from '../../issuer/census/count.ts'
import { knownOf, Leaves } from '../../issuer/census/known.ts'
import { readState } from '../../issuer/store.ts'
import { asOperator, type Operator } from '../../src/domain/operator.ts'
import { gatherOverview } from '../../src/domain/overview.ts'
import { RotorError } from '../../src/errors.ts'
import { exampleOf, isForeign, observed, type Placed, placeAll } from '../../src/rotation/census.ts'
import { formatInstant } from '../../src/time.ts'
import type { AuthorityStatus } from '../../src/wire/bundle.ts'
import type { IssuerReport } from '../../src/wire/report.ts'
import { colour, makeOutput, relative, table } from '../output.ts'

interface CensusOptions {
  readonly config: string
  readonly epoch?: number
  readonly json: boolean
}

export function addCensus(program: Command): void {
  program
    .command('census')
    .summary('show which live connections still depend on which authority')
    .description(
      `Asks every nats-server who is connected, and says on which authority each connection stands: by the certificates it
showed, or by when it began. Shows those that do not stand on the authority that signs now; with --epoch those that
stand on that one, or may, and ends with 1 when there are any.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--epoch <number>', 'one authority: may it leave trust?', wholeNumber)
    .option('--json', 'print the answer as JSON, every connection of it', false)
    .addHelpText(
      'after',
      `
Example, before an authority is taken out of trust by hand:
  rotor census --config prod/issuer/issuer.json --epoch 7`,
    )
    .action(async (options: CensusOptions) => {
      const output = makeOutput(options.json)
      await asOperator(options.config, async (operator) => {
        const answer = await takeCensus(operator, options.epoch)
        output.answer(answer, render(answer))
        process.exitCode = options.epoch !== undefined && answer.connections.length > 0 ? 1 : 0
      })
    })
}

function wholeNumber(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw new InvalidArgumentError('expected the number of an epoch.')
  return Number(text)
}

interface Answer {
  readonly type: 'census'
  readonly domain: string
  readonly at: string
  /** What could not be counted; null when every server answered in full. */
  readonly problem: string | null
  readonly total: number
  readonly epochs: readonly { epoch: number; status: AuthorityStatus; certain: number; possible: number }[]
  readonly foreign: number
  readonly connections: readonly (ReturnType<typeof exampleOf> & { epochs: readonly number[] })[]
}

async function takeCensus({ config, names, nc }: Operator, epoch: number | undefined): Promise<Answer> {
  const now = Date.now()
  const overview = await gatherOverview(nc, names, config, now)
  const stored = await readState(nc, names)
  if (stored === null) throw new RotorError('ERR_NATS_UNAVAILABLE', `${names.stateBucket}: no rotation state`)
  const expected = overview.agents.flatMap(({ name, role }) => (role === 'server' ? [name] : []))
  const count = await countConnections(nc, { expected, now })
  const statuses = overview.agents.flatMap(({ status }) => status ?? [])
  const known = knownOf(
    { names, state: stored.state, statuses, agents: overview.agents, servers: count.servers },
    new Leaves(),
  )
  const placed = placeAll(count.connections, known)
  const { standing, foreign } = observed(count, placed)
  const onSigner = ({ epochs }: Placed) => epochs.length === 1 && epochs[0] === stored.state.active
  const shown = placed.filter((one) =>
    epoch === undefined
      ? (one.epochs.length > 0 && !onSigner(one)) || isForeign(one)
      : one.epochs.includes(epoch),
  )
  return {
    type: 'census',
    domain: names.domain,
    at: formatInstant(now),
    problem: count.problem,
    total: placed.length,
    epochs: overview.authorities.map(({ epoch: of, status }) => {
      const found = standing.find((one) => one.epoch === of)
      return { epoch: of, status, certain: found?.certain ?? 0, possible: found?.possible ?? 0 }
    }),
    foreign: foreign.count,
    connections: shown.map((one) => ({ ...exampleOf(one), epochs: one.epochs })),
  }
}

const HOW: Readonly<Record<string, string>> = {
  leaf: 'its leaf',
  chain: 'its chain',
  start: 'its start',
  agent: 'its agent',
}

function render({ domain, problem, total, epochs, foreign, connections, at }: Answer): string {
  const counts = epochs.map(({ epoch, status, certain, possible }) => [
    `epoch ${epoch}`,
    status,
    String(certain),
    String(possible),
  ])
  const rows = connections.map((c) => [
    c.epochs.join(' or ') || 'none of ours',
    c.name,
    c.user,
    c.kind,
    `${c.server} cid ${c.cid}`,
    c.address,
    c.since === null ? '-' : relative(Date.parse(c.since), Date.parse(at)),
    HOW[c.by] ?? c.by,
  ])
  return [
    `${colour('bold', `trust domain ${domain}`)}  ${total} connections${foreign === 0 ? '' : `, ${foreign} of another CA`}`,
    ...(problem === null ? [] : [colour('red', `not complete: ${problem}`)]),
    '',
    table([['AUTHORITY', 'STATUS', 'STAND ON IT', 'MAY STAND ON IT'], ...counts]),
    '',
    rows.length === 0
      ? colour('green', 'nobody else')
      : table([['EPOCH', 'NAME', 'USER', 'KIND', 'SERVER', 'ADDRESS', 'SINCE', 'KNOWN BY'], ...rows]),
  ].join('\n')
}

/** What `rotor status` says of it. */
export function censusLines(census: IssuerReport['census']): string[] {
  if (census === null) return []
  const { problem, standing, foreign } = census
  return [
    ...(problem === null ? [] : [colour('yellow', `not all connections were counted: ${problem}`)]),
    ...standing.map(({ epoch, certain, possible, examples }) => {
      const names = [...new Set(examples.map((one) => one.name))].join(', ')
      const may = possible === 0 ? '' : `, ${possible} more may`
      return colour('yellow', `${certain} of the live connections stand on epoch ${epoch}${may}: ${names}`)
    }),
    ...(foreign.count === 0
      ? []
      : [`${foreign.count} of the live connections show a certificate of another CA`]),
  ]
}
