/** `rotor init`: a whole trust domain in a directory. */
import { dirname, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { found, type ServerPlan, type ServicePlan } from '../../issuer/founding/found.ts'
import { SIGNER_KINDS, type SignerKind } from '../../src/bundle/envelope.ts'
import { readVaultConfig } from '../../src/domain/vault-config.ts'
import { RotorError } from '../../src/errors.ts'
import { makeSchedule } from '../../src/schedule.ts'
import { formatDuration, parseDuration } from '../../src/time.ts'
import { KEY_ALGORITHMS, type KeyAlgorithm } from '../../src/trust/keys.ts'
import { makeOutput } from '../output.ts'

interface InitOptions {
  readonly domain: string
  readonly out: string
  readonly issuer: string[]
  readonly server: string[]
  readonly service: string[]
  readonly publish: string[]
  readonly subscribe: string[]
  readonly stream: string[]
  readonly epoch: string
  readonly validity?: string
  readonly lead?: string
  readonly account?: string
  readonly passphraseFile?: string
  readonly vault?: string
  readonly signer: SignerKind
  readonly join?: string
  readonly key: KeyAlgorithm
  readonly pathsAs?: string
  readonly json: boolean
}

const gather = (value: string, previous: string[]): string[] => [...previous, value]

export function addInit(program: Command): void {
  program
    .command('init')
    .summary('found a trust domain: root, signer, first authority, an identity for every node')
    .description(
      `Founds a trust domain in a new directory: the root, the signer of bundles, the first authority, an identity for
every node, and the configuration of every nats-server, agent and issuer. Give each node its folder, start the
servers, then "rotor issuer" and one "rotor agent" for each server and service.`,
    )
    .requiredOption('--domain <name>', 'name of the trust domain, such as prod')
    .requiredOption('--out <dir>', 'directory to make; it must not exist or be empty')
    .option(
      '--issuer <name>',
      'an issuer; again for others that stand by and take over (default: one, "issuer")',
      gather,
      [],
    )
    .option('--server <name=host[:client[:cluster]]>', 'a nats-server; again for each one', gather, [])
    .option('--service <name[=dnsName,...]>', 'a service; again for each one', gather, [])
    .option(
      '--publish <service=subject>',
      'a subject the service may publish to; may be given again',
      gather,
      [],
    )
    .option(
      '--subscribe <service=subject>',
      'a subject the service may subscribe to; may be given again',
      gather,
      [],
    )
    .option(
      '--stream <service=stream>',
      'a JetStream stream the service may use; may be given again',
      gather,
      [],
    )
    .option('--epoch <duration>', 'how long an authority signs', '6h')
    .option('--validity <duration>', 'how long an authority may be trusted (default: 4 epochs)')
    .option(
      '--lead <duration>',
      'how long before its epoch an authority is prepared (default: 5m, at most a quarter epoch)',
    )
    .option('--account <name>', 'NATS account of all nodes (default: the domain in upper case)')
    .option(
      '--passphrase-file <file>',
      'encrypt root, authority and signer keys; the issuer reads the same file',
    )
    .option(
      '--vault <file>',
      'make authorities in OpenBao or Vault, by this configuration: see "rotor vault setup" (default: in this process)',
    )
    .addOption(
      new Option('--signer <kind>', 'key that signs bundles; ml-dsa-65 needs Node 24.7 on every node')
        .choices(SIGNER_KINDS)
        .default('ed25519'),
    )
    .option('--join <host:port>', 'where further nodes join with a token: an HTTPS endpoint of the issuer')
    .addOption(
      new Option('--key <kind>', 'kind of key of every node').choices(KEY_ALGORITHMS).default('P-256'),
    )
    .option(
      '--paths-as <dir>',
      'where the directory will be when the nodes use it, such as /rotor in a container',
    )
    .option('--json', 'print the answer as JSON', false)
    .addHelpText(
      'after',
      `
Example: three servers and two services on one machine
  rotor init --domain prod --out ./prod \\
    --server nats-1=127.0.0.1:4221:6221 --server nats-2=127.0.0.1:4222:6222 --server nats-3=127.0.0.1:4223:6223 \\
    --service orders --publish 'orders=orders.>' --service billing --subscribe 'billing=orders.>'
  nats-server -c prod/servers/nats-1/nats-server.conf &     # and the other two
  rotor issuer --config prod/issuer/issuer.json &
  rotor agent --config prod/agents/nats-1/agent.json &      # one for each server and service
  rotor status --config prod/issuer/issuer.json`,
    )
    .action(async (options: InitOptions) => {
      const output = makeOutput(options.json)
      const founded = await found({
        domain: options.domain,
        out: resolve(options.out),
        ...(options.pathsAs === undefined ? {} : { pathsAs: options.pathsAs }),
        schedule: scheduleOfOptions(options),
        ...(options.issuer.length === 0 ? {} : { issuers: options.issuer }),
        servers: options.server.map(serverPlan),
        services: servicePlans(options),
        ...(options.account === undefined ? {} : { account: options.account }),
        ...(options.vault === undefined ? {} : { vault: await readVaultConfig(resolve(options.vault)) }),
        signer: options.signer,
        ...(options.passphraseFile === undefined ? {} : { passphraseFile: resolve(options.passphraseFile) }),
        ...(options.join === undefined ? {} : { join: options.join }),
        key: options.key,
      })
      const schedule = scheduleOfOptions(options)
      output.answer(
        { type: 'founded', ...founded },
        `Founded trust domain ${founded.domain} in ${founded.out}
  an authority signs for ${formatDuration(schedule.epochDuration)} and is trusted for ${formatDuration(schedule.validity)}; now epoch ${founded.epoch}
  bundles are signed by ${founded.signer}
  issuer   ${founded.issuerConfig}
${Object.entries(founded.serverConfigs)
  .map(([name, file]) => `  server   ${name}: ${file}`)
  .join('\n')}
${Object.entries(founded.agentConfigs)
  .filter(([, file]) => dirname(file) !== dirname(founded.issuerConfig))
  .map(([name, file]) => `  agent    ${name}: ${file}`)
  .join('\n')}
Next: start the servers, then "rotor issuer --config ${founded.issuerConfig}" and an agent beside each node.`,
      )
    })
}

const scheduleOfOptions = (options: InitOptions) =>
  makeSchedule({
    epochDuration: parseDuration(options.epoch, '--epoch'),
    ...(options.validity === undefined ? {} : { validity: parseDuration(options.validity, '--validity') }),
    ...(options.lead === undefined ? {} : { lead: parseDuration(options.lead, '--lead') }),
  })

function serverPlan(text: string): ServerPlan {
  const match = /^([^=]+)=([^:=]+)(?::(\d+)(?::(\d+))?)?$/.exec(text)
  if (match === null) {
    throw new RotorError(
      'ERR_USAGE',
      `--server: expected name=host[:clientPort[:clusterPort]], found ${JSON.stringify(text)}`,
    )
  }
  const [, name = '', host = '', client = '4222', cluster = '6222'] = match
  return { name, host, clientPort: Number(client), clusterPort: Number(cluster) }
}

function servicePlans(options: InitOptions): ServicePlan[] {
  const plans = options.service.map((text) => {
    const [name = '', names] = text.split('=')
    return { name, dns: names?.split(',') ?? [] }
  })
  const grants = (flag: 'publish' | 'subscribe' | 'stream') => {
    const pairs = options[flag].map((text): [string, string] => {
      const [name, subject] = text.split('=')
      if (!plans.some((plan) => plan.name === name) || subject === undefined) {
        throw new RotorError(
          'ERR_USAGE',
          `--${flag}: expected service=subject of a --service, found ${JSON.stringify(text)}`,
        )
      }
      return [name ?? '', subject]
    })
    return (name: string) => pairs.filter(([of]) => of === name).map(([, subject]) => subject)
  }
  const [publish, subscribe, streams] = [grants('publish'), grants('subscribe'), grants('stream')]
  return plans.map((plan) => ({
    ...plan,
    publish: publish(plan.name),
    subscribe: subscribe(plan.name),
    streams: streams(plan.name),
  }))
}
