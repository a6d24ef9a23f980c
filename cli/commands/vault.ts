/** `rotor vault setup`: what OpenBao or Vault needs for a domain, printed or made. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { Vault } from '../../issuer/authority/vault/client.ts'
import { writeCredentials } from '../../issuer/authority/vault/credentials.ts'
import { setupCommands } from '../../issuer/authority/vault/print.ts'
import { applySetup, type ItemState, inspectSetup, setupItems } from '../../issuer/authority/vault/setup.ts'
import { readVaultConfig } from '../../src/domain/vault-config.ts'
import { RotorError } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import { parseDuration } from '../../src/time.ts'
import { assertName } from '../../src/wire/names.ts'
import { colour, makeOutput, table } from '../output.ts'

interface SetupFlags {
  readonly domain: string
  readonly config: string
  readonly skew: string
  readonly rootLife: string
  readonly authorityLife: string
  readonly tokenFile?: string
  readonly check: boolean
  readonly apply: boolean
  readonly json: boolean
}

const COLOURS = { missing: 'yellow', there: 'green', different: 'red' } as const

export function addVault(program: Command): void {
  const vault = program
    .command('vault')
    .summary('set up OpenBao or HashiCorp Vault as the authority of a domain')
    .description('Sets up OpenBao or HashiCorp Vault as the authority of a domain.')
  vault
    .command('setup')
    .summary('print, check or make the engines, the leaf role, the policy and the login of the issuer')
    .description(
      `Prints the commands that make two PKI engines (root and authorities), a leaf role, a KV engine, a policy that allows
the issuer its own calls and nothing else, and its AppRole. With --apply it makes what is missing and writes the files
the issuer logs in with. What is there already is never changed: a difference is told, and nothing at all is made.`,
    )
    .requiredOption('--domain <name>', 'name of the trust domain, such as prod')
    .requiredOption('--config <file>', 'where it is and what is ours there: the block "vault" of issuer.json')
    .option('--skew <duration>', 'how far back certificates may begin; at least the lead of the domain', '5m')
    .option('--root-life <duration>', 'how long the root lives', '3650d')
    .option('--authority-life <duration>', 'how long an authority may live at most', '365d')
    .option(
      '--token-file <file>',
      "an operator's token (default: BAO_TOKEN or VAULT_TOKEN of the environment)",
    )
    .option(
      '--check',
      'compare with what is there, change nothing; ends with 1 when something is missing',
      false,
    )
    .option('--apply', 'make what is missing', false)
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example: OpenBao on this machine
  cat > vault.json <<'EOF'
  { "address": "https://bao.example.com:8200",
    "auth": { "method": "approle", "roleIdFile": "./role-id", "secretIdFile": "./secret-id" } }
  EOF
  rotor vault setup --domain prod --config vault.json                       # read what it would do
  BAO_TOKEN=... rotor vault setup --domain prod --config vault.json --apply
  rotor init --domain prod --vault vault.json --out ./prod --server nats-1=127.0.0.1 --service orders
All settings, other logins and HashiCorp Vault: docs/openbao.md.`,
    )
    .action(async (flags: SetupFlags) => {
      const output = makeOutput(flags.json)
      if (flags.check && flags.apply)
        throw new RotorError('ERR_USAGE', 'expected --check or --apply, found both')
      assertName(flags.domain, '--domain')
      const config = await readVaultConfig(resolve(flags.config))
      const items = setupItems({
        config,
        domain: flags.domain,
        skew: parseDuration(flags.skew, '--skew'),
        rootLife: parseDuration(flags.rootLife, '--root-life'),
        authorityLife: parseDuration(flags.authorityLife, '--authority-life'),
      })
      if (!flags.check && !flags.apply) {
        const steps = items.map(({ what, write }) => ({ what, ...write }))
        return output.answer({ type: 'vault-setup', steps }, setupCommands(items))
      }
      await using client = await Vault.open({
        config,
        name: 'operator',
        token: await operatorToken(flags.tokenFile),
        logger: silentLogger,
      })
      const states = flags.apply ? await applySetup(client, items) : await inspectSetup(client, items)
      const written = flags.apply ? await writeCredentials(client, config, flags.domain) : []
      const open = flags.apply ? [] : states.filter(({ finding }) => finding !== 'there')
      const steps = states.map(({ item, finding, differences }) => ({
        what: item.what,
        finding,
        differences,
      }))
      output.answer(
        { type: 'vault-setup', applied: flags.apply, steps, written },
        render(states, flags.apply, written),
      )
      process.exitCode = open.length === 0 ? 0 : 1
    })
}

function render(states: readonly ItemState[], applied: boolean, written: readonly string[]): string {
  const rows = states.map(({ item, finding, differences }) => {
    const word =
      applied && finding === 'missing' ? colour('green', 'made') : colour(COLOURS[finding], finding)
    return [word, item.what, differences.join(', ')]
  })
  const files = written.map((file) => `wrote ${file}: give it to the issuer only`)
  return [table(rows), ...files].join('\n')
}

/** From a file or the environment: arguments of a process are public. */
async function operatorToken(file: string | undefined): Promise<string> {
  const given = file ?? 'BAO_TOKEN or VAULT_TOKEN'
  const text =
    file === undefined
      ? process.env.BAO_TOKEN || process.env.VAULT_TOKEN || ''
      : await readFile(file, 'utf8').catch((cause) => {
          throw new RotorError('ERR_USAGE', `--token-file: ${cause.message}`, { cause })
        })
  const token = text.trim()
  if (!/^[\x21-\x7e]+$/.test(token)) throw new RotorError('ERR_USAGE', `expected a token in ${given}`)
  return token
}
