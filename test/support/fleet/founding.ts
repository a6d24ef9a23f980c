/** A domain is founded: its keys, the first bundle, and every machine enrolled with it, of a size that the seed says. */
import { startAgent } from '../../../agent/agent.ts'
import { signBundle } from '../../../src/bundle/envelope.ts'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { bootstrap } from '../../../src/rotation/advance.ts'
import { epochEnd, epochStart, type Schedule } from '../../../src/schedule.ts'
import type { Random } from '../random.ts'
import { genesisPayload } from '../rotation-world.ts'
import { AgentMachine } from './agent-machine.ts'
import { Broker, STATE_KEY } from './broker.ts'
import { leaseBy, policyBy, qualityBy } from './by-seed.ts'
import { IssuerMachine } from './issuer-machine.ts'
import { DOMAIN, KeyStore } from './key-store.ts'
import { Network } from './network.ts'
import type { FleetOptions } from './options.ts'
import { People } from './people.ts'
import { FleetPromises } from './promises.ts'
import { Requests } from './requests.ts'
import type { Timeline } from './timeline.ts'

export const FIRST_EPOCH = 100

/** Everything there is in a run. */
export interface Domain {
  readonly schedule: Schedule
  readonly timeline: Timeline
  readonly network: Network
  readonly broker: Broker
  readonly keys: KeyStore
  readonly agents: readonly AgentMachine[]
  readonly issuers: readonly IssuerMachine[]
  readonly promises: FleetPromises
}

/** Nothing runs yet in it. */
export async function found(
  options: FleetOptions,
  schedule: Schedule,
  timeline: Timeline,
  random: Random,
): Promise<{ readonly domain: Domain; readonly people: People }> {
  const keys = await KeyStore.open(timeline.now, schedule.lead)
  const network = new Network(timeline, random.fork(), qualityBy(random))
  const broker = new Broker(timeline, network)
  const agents: AgentMachine[] = []
  const issuers: IssuerMachine[] = []
  const promises = new FleetPromises({ schedule, keys, agents, issuers, broker, timeline })
  const domain: Domain = { schedule, timeline, network, broker, keys, agents, issuers, promises }
  const people = new People(domain, random.fork())
  broker.onStatus = (agent) => {
    for (const issuer of issuers) issuer.statusStored(agent)
  }
  const genesis = await publishFirst(domain)
  options.sabotage?.broker?.(broker)
  addAgents(domain, agents, options, random)
  for (const machine of agents) people.enrol(machine)
  addIssuers(domain, issuers, genesis, options, random)
  return { domain, people }
}

/** The payload of version 1. */
async function publishFirst({ schedule, timeline, broker, keys, promises }: Domain): Promise<string> {
  const begins = epochStart(schedule, FIRST_EPOCH) - schedule.lead
  const first = await keys.prepare(FIRST_EPOCH, begins, epochEnd(schedule, FIRST_EPOCH))
  const payload = encodePayload({
    ...genesisPayload(FIRST_EPOCH, schedule, first),
    roots: [keys.root.certificate.pem],
    signers: [keys.signer.key],
  })
  const bytes = await signBundle(payload, [keys.signer])
  const state = bootstrap({ domain: DOMAIN, payload, fence: 0 }, timeline.now)
  const revision = broker.write(STATE_KEY, JSON.stringify(state), 0)
  promises.committed(0, revision, state, null)
  broker.publish({ id: `${DOMAIN}-1`, version: 1, bytes }, 0)
  return payload
}

function addAgents(domain: Domain, machines: AgentMachine[], options: FleetOptions, random: Random): void {
  const { timeline, network, broker, keys, issuers, promises } = domain
  const { agents = random.pick([1, 2, 2, 3, 4]), sabotage } = options
  const servers = random.pick([1, 2, 2, 3])
  const parts = {
    timeline,
    network,
    broker,
    answering: new Requests({ network, broker, random: random.fork(), issuers }),
    random: random.fork(),
    watching: promises,
    anyCertificate: keys.root.certificate,
    servers: () => machines.filter(({ role }) => role === 'server'),
    start: startAgent,
  }
  const add = (name: string, role: AgentMachine['role']) => {
    const machine = new AgentMachine(name, role, parts)
    sabotage?.machine?.(machine)
    machines.push(machine)
  }
  for (let i = 1; i <= servers; i++) add(`n${i}`, 'server')
  add('issuer', 'issuer')
  for (let i = 1; i <= agents; i++) add(`s${i}`, 'service')
}

function addIssuers(
  domain: Domain,
  machines: IssuerMachine[],
  genesis: string,
  { sabotage }: FleetOptions,
  random: Random,
): void {
  const { timeline, network, broker, keys, schedule, agents, promises: watching } = domain
  // one configuration for all
  const bySeed = policyBy(random, schedule)
  const policy = sabotage?.policy ?? bySeed
  const lease = leaseBy(random)
  const parts = { timeline, network, broker, keys, schedule, policy, lease, agents, watching, genesis }
  for (const name of ['issuer-a', 'issuer-b'].slice(0, random.pick([1, 2, 2]))) {
    machines.push(new IssuerMachine(name, parts, sabotage))
  }
}
