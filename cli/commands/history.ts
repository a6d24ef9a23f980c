/** `rotor history`: every bundle there ever was, and whether anybody touched it. */
import { type Command, InvalidArgumentError } from 'commander'
import { gatherHistory } from '../../issuer/history/gather.ts'
import { readIssuerConfig } from '../../src/domain/config.ts'
import { asOperator } from '../../src/domain/operator.ts'
import { stateFindings } from '../../src/history/state.ts'
import { type Finding, type HistoryEntry, readHistory } from '../../src/history/verify.ts'
import type { BundlePayload } from '../../src/wire/bundle.ts'
import { colour, makeOutput, table } from '../output.ts'

interface HistoryOptions {
  readonly config: string
  readonly verify: boolean
  readonly offline: boolean
  readonly since?: number
  readonly signer?: string[]
  readonly json: boolean
}

export function addHistory(program: Command): void {
  program
    .command('history')
    .summary('show every bundle of the domain, and verify that nobody touched one')
    .description(
      `Shows the bundles on the stream and those kept beside the keys, the oldest first. With --verify each is judged as an agent
would have judged it at its time: signed by a signer that was trusted then, numbers without a gap, each with the digest
of the one before, dates in order, every authority under a root of its bundle; and the stream, the kept bundles and the
state of the issuer have to agree, byte by byte. It ends with 1 when something is not so, and names what.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--verify', 'verify it; ends with 1 when something is wrong', false)
    .option('--offline', 'only what is kept beside the keys: without NATS', false)
    .option(
      '--since <version>',
      'the version from which on it has to be whole, after a loss of the stream',
      wholeNumber,
    )
    .option('--signer <thumbprint...>', 'believe these signers only, not what genesis.jws says')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example: rotor history --config issuer.json --verify
An auditor with a copy of the folder of the issuer needs no network
         rotor history --config copy/issuer.json --verify --offline --signer kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k`,
    )
    .action(history)
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('expected the number of a version.')
  return Number(text)
}

async function history({
  config: file,
  verify,
  offline,
  since,
  signer: signers,
  json,
}: HistoryOptions): Promise<void> {
  const output = makeOutput(json)
  const config = await readIssuerConfig(file)
  const { states, sealed, ...gathered } = offline
    ? await gatherHistory(config, null)
    : await asOperator(file, ({ nc }) => gatherHistory(config, nc))
  const { domain } = config
  const { entries, findings: found } = await readHistory({
    domain,
    ...gathered,
    signers,
    since,
    now: Date.now(),
  })
  const findings = [...found, ...(await stateFindings(states, sealed, entries))]
  const answer = {
    type: 'history',
    domain: config.domain,
    entries: entries.map(entryOf),
    findings: verify ? findings : null,
  }
  output.answer(answer, render(entries, verify ? findings : null))
  process.exitCode = verify && findings.length > 0 ? 1 : 0
}

const entryOf = ({ version, payload, digest, sequence, kept }: HistoryEntry) => ({
  version,
  issuedAt: payload.issuedAt,
  epoch: payload.epoch,
  reason: payload.reason,
  digest,
  previous: payload.previous,
  signers: payload.signers.map(({ kid }) => kid),
  record: payload.record ?? null,
  authorities: payload.authorities.map(({ epoch, status, sha256 }) => ({ epoch, status, sha256 })),
  sequence,
  kept,
})

function render(entries: readonly HistoryEntry[], findings: readonly Finding[] | null): string {
  const rows = entries.flatMap(({ version, payload, sequence, kept }) => [
    ...toldBefore(payload),
    [
      `${version}`,
      payload.issuedAt,
      `${payload.epoch}`,
      payload.authorities.map(({ epoch }) => epoch).join(' '),
      payload.signers.map(({ kid }) => kid.slice(0, 8)).join(' '),
      [sequence === null ? [] : `stream ${sequence}`, kept ? 'kept' : []].flat().join(', '),
      payload.reason,
    ],
  ])
  const head = ['VERSION', 'ISSUED', 'SIGNS', 'TRUSTED', 'SIGNERS', 'WHERE', 'REASON']
  return [table([head, ...rows]), ...(findings === null ? [] : ['', verdict(entries, findings)])].join('\n')
}

/** Orders, and moves without a bundle of their own, since the one before; in the order they came. */
function toldBefore({ record }: BundlePayload): string[][] {
  if (record === undefined) return []
  const orders = record.orders.map(({ kind, by, reason, force, at }) => ({
    at,
    text: `order ${kind}${force ? ', forced,' : ''} by ${by}: ${reason}`,
  }))
  const moves = record.moves.map(({ at, reason }) => ({ at, text: reason }))
  const left = record.left === 0 ? [] : [['', '', '', '', '', '', `and ${record.left} before these`]]
  const told = [...orders, ...moves].sort((a, b) => (a.at < b.at ? -1 : 1))
  return [...left, ...told.map(({ at, text }) => ['', at, '', '', '', '', text])]
}

function verdict(entries: readonly HistoryEntry[], findings: readonly Finding[]): string {
  const [first, last] = [entries.at(0)?.version, entries.at(-1)?.version]
  if (findings.length === 0)
    return colour('green', `Versions ${first} to ${last} are whole: nobody touched them.`)
  return table(findings.map(({ where, problem }) => [colour('red', where), problem]))
}
