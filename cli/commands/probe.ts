/** `rotor probe`: what does a listener serve, and does it take our certificate? */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { RotorError } from '../../src/errors.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { PROBE_KINDS } from '../../src/probe/listeners.ts'
import { probeListener } from '../../src/probe/probe.ts'
import { formatInstant, parseDuration } from '../../src/time.ts'
import { signalOfProcess } from '../daemon.ts'
import { colour, makeOutput, table } from '../output.ts'

interface ProbeOptions {
  readonly kind: string
  readonly identity?: string
  readonly serverName?: string
  readonly handshakeFirst: boolean
  readonly timeout: string
  readonly json: boolean
}

export function addProbe(program: Command): void {
  program
    .command('probe')
    .summary('make one real connection and tell what the other side serves and accepts')
    .description(
      `Dials a TLS listener of a nats-server (or, with --kind tls, of any service), tells which leaf it serves, whether
that verifies, and whether it takes our certificate: proven by what comes after the handshake, because with TLS 1.3 a
refusal comes late. Ends with 1 when something does not hold.`,
    )
    .argument('<address>', 'host:port')
    .option('--kind <kind>', PROBE_KINDS.join(', '), 'client')
    .option('--identity <dir>', 'identity directory to dial with (default: no certificate, no trust)')
    .option('--server-name <name>', 'asked for, and looked for in the certificate (default: the host)')
    .option('--handshake-first', 'the listener begins with TLS', false)
    .option('--timeout <duration>', 'patience', '3s')
    .option('--json', 'print the answer as JSON', false)
    .action(async (address: string, options: ProbeOptions) => {
      const kind = PROBE_KINDS.find((k) => k === options.kind)
      if (kind === undefined)
        throw new RotorError(
          'ERR_USAGE',
          `--kind: expected one of ${PROBE_KINDS.join(', ')}, found ${options.kind}`,
        )
      const output = makeOutput(options.json)
      const { signal, forget } = signalOfProcess()
      try {
        const material =
          options.identity === undefined ? undefined : await readIdentity(resolve(options.identity))
        const result = await probeListener(
          { kind, address, handshakeFirst: options.handshakeFirst, servername: options.serverName },
          {
            timeout: parseDuration(options.timeout, '--timeout'),
            signal,
            ...(material === undefined ? {} : { material }),
          },
        )
        const { served, servedChain, ...rest } = result
        const leaf = {
          fingerprint: served.sha256,
          subject: served.subject,
          issuer: served.issuer,
          notBefore: formatInstant(served.notBefore),
          notAfter: formatInstant(served.notAfter),
          names: served.names,
        }
        const ok = result.trusted && result.accepted
        const yes = (value: boolean, why: string | null) =>
          value ? colour('green', 'yes') : colour('red', `no: ${why ?? ''}`)
        output.answer(
          { type: 'probe', ok, ...rest, served: leaf, chainLength: servedChain.length },
          table([
            [
              'listener',
              `${kind} ${address}${result.serverName === undefined ? '' : `, nats-server ${result.serverName} ${result.serverVersion ?? ''}`}`,
            ],
            [
              'serves',
              `${leaf.subject.replaceAll('\n', ', ')}, issued by ${leaf.issuer.replaceAll('\n', ', ')}`,
            ],
            ['fingerprint', leaf.fingerprint],
            ['valid', `${leaf.notBefore} to ${leaf.notAfter}`],
            ['TLS', [result.tlsVersion, result.cipher, result.group].filter((x) => x !== null).join(', ')],
            ['verifies', yes(result.trusted, result.untrusted)],
            ['accepts us', yes(result.accepted, result.refused)],
            ...(result.authorized === false
              ? [['user', colour('yellow', result.denied ?? 'not authorized')]]
              : []),
          ]),
        )
        process.exitCode = ok ? 0 : 1
      } finally {
        forget()
      }
    })
}
