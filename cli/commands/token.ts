/** `rotor token`: join tokens, with which a node gets its first identity. */
import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { accountUser } from '../../src/domain/nats-config.ts'
import { askIssuer, asOperator } from '../../src/domain/operator.ts'
import { encodeToken, newTokenSecret, secretSha256 } from '../../src/enrolment/token.ts'
import { writeFileDurable } from '../../src/identity/durable.ts'
import { parseDuration } from '../../src/time.ts'
import { tokenCreated, tokenRevoked, tokensListed } from '../../src/wire/enrolment.ts'
import { makeOutput, relative, table } from '../output.ts'

interface Shared {
  readonly config: string
  readonly json: boolean
}

interface CreateOptions extends Shared {
  readonly agent: string
  readonly ttl: string
  readonly out?: string
  readonly user: boolean
}

export function addToken(program: Command): void {
  const token = program
    .command('token')
    .summary('join tokens: how a node gets its first identity')
    .description(
      `A join token lets one node join the domain, once and soon. It names the agent, tells where to ask, and pins the key of
the join endpoint and the signers of bundles, so the first contact is as safe as every later one. The issuer keeps only
a hash of it. It needs "join" in issuer.json; see docs/joining.md.`,
    )
    .addHelpText(
      'after',
      `
Example: a new node
  rotor token create --config issuer.json --agent orders-7 --out orders-7.token
  rotor agent --join orders-7.token --dir ./orders-7        # on the new node`,
    )

  shared(token.command('create'))
    .summary('make a token for an agent')
    .description(
      `Makes a token for an agent that an entry of "agents" in issuer.json fits. The token is the one line on stdout, or goes
into a file that only you can read (--out). It is a secret until it was used.`,
    )
    .requiredOption('--agent <name>', 'who may join with it')
    .option('--ttl <duration>', 'how long it may be used, at most 7d', '1h')
    .option('--out <file>', 'write it to a new file, mode 0600')
    .option('--user', 'also show the user that accounts.conf needs for the agent', false)
    .addHelpText(
      'after',
      '\nExample: rotor token create --config issuer.json --agent orders-7 --ttl 15m --out orders-7.token',
    )
    .action(create)

  shared(token.command('list'))
    .summary('show the tokens of the last day')
    .description('Shows every token that is open, and what became of those that ended in the last day.')
    .action(list)

  shared(token.command('revoke <id>'))
    .summary('take a token back')
    .description(
      'The token counts no more. A node that joined with it stays; "rotor agent remove" sends it away.',
    )
    .option('--reason <text>', 'why; it is recorded', 'by the operator')
    .addHelpText('after', '\nExample: rotor token revoke 91c2d4e5f6a7b8c9 --config issuer.json')
    .action(revoke)
}

const shared = (command: Command): Command =>
  command
    .requiredOption('--config <file>', 'issuer.json of "rotor init"')
    .option('--json', 'print the answer as JSON', false)

async function create(options: CreateOptions): Promise<void> {
  const output = makeOutput(options.json)
  const ttl = parseDuration(options.ttl, '--ttl')
  await asOperator(options.config, async ({ names, nc }) => {
    const { id, secret } = newTokenSecret()
    const request = {
      v: 1,
      op: 'create-token',
      id,
      agent: options.agent,
      secretSha256: secretSha256(secret),
      ttl,
      by: userInfo().username,
    }
    const made = await askIssuer(nc, names.enrolSubject, request, tokenCreated)
    const { agent, role, expiresAt, addresses, endpoint, signers, key } = made
    const token = encodeToken({ domain: names.domain, agent, addresses, endpoint, signers, key, id, secret })
    const file = options.out === undefined ? null : resolve(options.out)
    if (file !== null) await writeFileDurable(file, `${token}\n`, 0o600)
    const answer = { type: 'token', id, agent, role, expiresAt, ...(file === null ? { token } : { file }) }
    const user = options.user ? accountUser(names.domain, { name: agent, role }) : undefined
    output.note(
      `Token ${id} for ${agent}, until ${expiresAt}. Whoever has it can be ${agent}: keep it to yourself.`,
    )
    if (user !== undefined)
      output.note(`Its user in accounts.conf of every server, then reload them:\n${user}`)
    output.answer({ ...answer, ...(user === undefined ? {} : { user }) }, file ?? token)
  })
}

async function list({ config, json }: Shared): Promise<void> {
  const output = makeOutput(json)
  await asOperator(config, async ({ names, nc }) => {
    const { tokens } = await askIssuer(nc, names.enrolSubject, { v: 1, op: 'list-tokens' }, tokensListed)
    const now = Date.now()
    const rows = tokens.map(({ id, agent, state, expiresAt, by }) => [
      id,
      agent,
      state,
      relative(Date.parse(expiresAt), now),
      by,
    ])
    const text =
      rows.length === 0 ? 'There are no tokens.' : table([['ID', 'AGENT', 'STATE', 'ENDS', 'BY'], ...rows])
    output.answer({ type: 'tokens', tokens }, text)
  })
}

async function revoke(
  id: string,
  { config, json, reason }: Shared & { readonly reason: string },
): Promise<void> {
  const output = makeOutput(json)
  await asOperator(config, async ({ names, nc }) => {
    const request = { v: 1, op: 'revoke-token', id, reason, by: userInfo().username }
    const { agent } = await askIssuer(nc, names.enrolSubject, request, tokenRevoked)
    output.answer({ type: 'revoked', id, agent }, `Token ${id} for ${agent} counts no more.`)
  })
}
