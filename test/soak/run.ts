/** `npm run soak`: many real rotations of a real domain, with a random fault in each, and a verdict. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { note, parseFlags, runCommand, wholeNumber } from '../../bench/command.ts'
import { AUTHORITY_KINDS, type AuthorityKind } from '../../demo/domain.ts'
import { RotorError } from '../../src/errors.ts'
import { formatDuration } from '../../src/time.ts'
import { type FaultKind, faultKinds, isFault } from './faults.ts'
import { sayMachine } from './machine.ts'
import { runSoak, type SoakReport } from './soak.ts'

const HELP = `npm run soak -- [--rotations N] [--seed N] [--authority embedded|openbao] [--json]

Rotates a domain of 3 nats-servers and 10 services, with two issuers, again and again. In each rotation something goes wrong:
a process or a server is killed, frozen or stopped, at a moment that the seed chooses. Every message is accounted for.

  --rotations N   how many (default 100, which takes about twenty minutes)
  --seed N        the same seed chooses the same faults (default 1)
  --authority A   embedded or openbao (default embedded)
  --services N    2 or more (default 10)
  --rate N        messages per second of each service, half core and half JetStream (default 40)
  --fault NAME    this fault only; may be given again
                  ${faultKinds('openbao').join(', ')}
  --keep DIR      every file and log goes into this folder, which is new, and stays (default a temporary folder, which stays
                  only when a promise did not hold)
  --json          one JSON object on stdout instead of text

Example: npm run soak -- --rotations 5 --seed 7 --fault "server killed"
Exit code: 0 every promise held, 1 one did not, 64 wrong use, 130 stopped by a signal.
`

const FLAGS = {
  rotations: { type: 'string', default: '100' },
  seed: { type: 'string', default: '1' },
  authority: { type: 'string', default: 'embedded' },
  services: { type: 'string', default: '10' },
  rate: { type: 'string', default: '40' },
  fault: { type: 'string', multiple: true },
  keep: { type: 'string' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const

function authorityOf(text: string): AuthorityKind {
  const found = AUTHORITY_KINDS.find((kind) => kind === text)
  if (found !== undefined) return found
  throw new RotorError(
    'ERR_USAGE',
    `--authority: expected ${AUTHORITY_KINDS.join(' or ')}, found ${JSON.stringify(text)}`,
  )
}

function faultsOf(names: readonly string[] | undefined, authority: AuthorityKind): FaultKind[] {
  const known = faultKinds(authority)
  return (names ?? known).map((name) => {
    if (isFault(name) && known.includes(name)) return name
    throw new RotorError(
      'ERR_USAGE',
      `--fault: expected one of ${known.join(', ')}; found ${JSON.stringify(name)}`,
    )
  })
}

function render(report: SoakReport): string {
  const { core, jetstream, requests } = report
  const lines = [
    `${report.rotations} rotations (${report.authority}, seed ${report.seed}) in ${formatDuration(report.durationMs)}; ` +
      `each ${report.rotationMs.p50} ms (p50), ${report.rotationMs.max} ms at most; ${report.takenBack} taken back and ordered again`,
    `faults: ${Object.entries(report.faults)
      .map(([kind, count]) => `${kind} ${count}`)
      .join(', ')}`,
    `core ${core.published}: lost ${core.lost}, twice ${core.duplicated}, reordered ${core.reordered}`,
    `jetstream ${jetstream.acknowledged}: lost ${jetstream.lost}, twice ${jetstream.duplicated}, redelivered ${jetstream.redelivered}`,
    `requests ${requests.sent}: failed ${requests.failed}; published by killed services that could not tell: ${report.untold}`,
    sayMachine(report.machine),
    ...report.explained.map((text) => `explained: ${text}`),
    ...report.problems.map((text) => `PROBLEM: ${text}`),
    report.ok ? 'every promise held' : `${report.problems.length} problems; again: --seed ${report.seed}`,
  ]
  return `${lines.join('\n')}\n`
}

await runCommand(async (signal) => {
  const flags = parseFlags(FLAGS)
  if (flags.help) {
    process.stdout.write(HELP)
    return 0
  }
  const authority = authorityOf(flags.authority)
  const dir = flags.keep ?? (await mkdtemp(join(tmpdir(), 'rotor-soak-')))
  await using cleanup = new AsyncDisposableStack()
  if (flags.keep === undefined) cleanup.defer(() => rm(dir, { recursive: true, force: true }))
  const report = await runSoak({
    rotations: wholeNumber('rotations', flags.rotations, 1),
    seed: wholeNumber('seed', flags.seed, 0),
    services: wholeNumber('services', flags.services, 2),
    rate: wholeNumber('rate', flags.rate, 2),
    authority,
    dir,
    faults: faultsOf(flags.fault, authority),
    signal,
    note,
  })
  if (!report.ok) {
    cleanup.move()
    note(`every file and log is in ${dir}`)
  }
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : render(report))
  return report.ok ? 0 : 1
})
