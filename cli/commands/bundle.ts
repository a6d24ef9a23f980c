/** `rotor bundle`: the newest bundle as a file, for a node that can not fetch it by itself. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { newestBundle } from '../../issuer/store.ts'
import { asOperator, type Operator } from '../../src/domain/operator.ts'
import { RotorError } from '../../src/errors.ts'
import { replaceFile } from '../../src/identity/durable.ts'
import { readState } from '../../src/identity/state.ts'
import { makeOutput } from '../output.ts'

interface ExportOptions {
  readonly config: string
  readonly out?: string
  readonly json: boolean
}

export function addBundle(program: Command): void {
  const bundle = program
    .command('bundle')
    .summary('give the newest bundle out as a file')
    .description('Gives the newest bundle of the domain out as a file.')
  bundle
    .command('export')
    .summary('write the newest bundle to a file')
    .description(
      `Reads the newest bundle that a signer of the domain has signed. There is no secret in it, and it proves itself: a node
takes it from any hand. It is for a node that was away for so long that it trusts no server any more, and is good until
it expires. An issuer with a join endpoint gives the same at https://ADDRESS/bundle.`,
    )
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--out <file>', 'where to write it; replaced when it is there (default: stdout)')
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example: rotor bundle export --config issuer.json --out bundle.jws
         rotor agent --config agent.json --bundle bundle.jws      # on the node`,
    )
    .action(exportBundle)
}

async function exportBundle({ config, out, json }: ExportOptions): Promise<void> {
  const output = makeOutput(json)
  await asOperator(config, async (operator) => {
    const { envelope, version, expiresAt } = await newestOf(operator)
    const text = Buffer.from(envelope).toString('utf8')
    const file = out === undefined ? null : resolve(out)
    if (file !== null) await replaceFile(file, envelope, 0o644)
    output.note(`Bundle ${version}, good until ${expiresAt}.`)
    const answer = { type: 'bundle', version, expiresAt, ...(file === null ? { bundle: text } : { file }) }
    output.answer(answer, file ?? text)
  })
}

/** By the signers that the identity of the issuer has accepted: what strangers put on the stream is passed over. */
async function newestOf({ nc, names, config }: Operator) {
  const state = await readState(config.identity)
  if (state === null) {
    throw new RotorError('ERR_IDENTITY_MISSING', `${config.identity}: expected a state.json, found none`)
  }
  const found = await newestBundle(
    nc,
    names,
    state.signers.map((key) => ({ key })),
  )
  const own = found?.own ?? null
  if (own === null) {
    throw new RotorError(
      'ERR_RECORD_INVALID',
      `stream ${names.bundleStream}: expected a bundle by a signer of ${names.domain}, found none`,
    )
  }
  const { version, expiresAt } = own.bundle
  return { envelope: own.envelope, version, expiresAt }
}
