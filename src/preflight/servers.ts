/** Could every nats-server be changed, proven and counted, and would a reload or a handoff break something on it? */
import type { ConfigStatus } from '../wire/status.ts'
import type { Facts, ListenerFacts, ServerFacts } from './facts.ts'
import { type Finding, finding } from './findings.ts'

export function judgeServers(facts: Facts): Finding[] {
  const { servers, listeners, secondConnection, state } = facts
  const own = facts.nodes.filter(({ role }) => role === 'server').map(({ name }) => name)
  return [
    ...(servers === null ? [] : judgePresence(servers, own)),
    ...(servers ?? []).flatMap(judgeServer),
    ...listeners.flatMap((listener) => judgeListener(listener, servers ?? [])),
    ...facts.seen.agents.flatMap(({ name, status }) =>
      status?.role === 'server' ? judgeConfigs(name, status.configs) : [],
    ),
    ...(secondConnection === null
      ? []
      : [finding('account-connections-full', 'domain', state.domain, secondConnection)]),
  ]
}

function judgePresence(servers: readonly ServerFacts[], own: readonly string[]): Finding[] {
  const names = servers.map(({ name }) => name)
  return [
    ...own
      .filter((name) => !names.includes(name))
      .map((name) => finding('server-silent', 'server', name, 'no answer to $SYS.REQ.SERVER.PING')),
    ...names
      .filter((name) => !own.includes(name))
      .map((name) =>
        finding('server-without-agent', 'server', name, 'it answers, and no agent has its name'),
      ),
  ]
}

function judgeServer({ name, version, connections, operatorMode }: ServerFacts): Finding[] {
  const found: Finding[] = []
  if (operatorMode && dropsOnReload(version))
    found.push(
      finding(
        'operator-clients',
        'server',
        name,
        `nats-server ${version} in operator mode, ${connections?.now ?? 'some'} clients`,
      ),
    )
  if (connections === null) return found
  const { now, max } = connections
  const text = `${now} connections, max_connections is ${max}`
  if (max > 0 && now >= max) found.push(finding('server-connections-full', 'server', name, text))
  else if (max > 0 && 2 * now > max) found.push(finding('server-connections-tight', 'server', name, text))
  return found
}

/** Mended by PR #8609, which is in no release of 2.11 and in 2.12 and 2.14 from these on. What we can not read is newer. */
function dropsOnReload(version: string): boolean {
  const [major = 99, minor = 0, patch = 0] = (/^v?(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1) ?? []).map(
    Number,
  )
  if (major !== 2) return major < 2
  if (minor === 12) return patch <= 15
  return minor < 14 || (minor === 14 && patch <= 5)
}

function judgeListener(listener: ListenerFacts, servers: readonly ServerFacts[]): Finding[] {
  const { server, kind, address, unreachable, untrusted, refused, forClients } = listener
  const name = `${server} ${kind} ${address}`
  if (unreachable !== null) return [finding('listener-unreachable', 'listener', name, unreachable)]
  const found: Finding[] = []
  if (untrusted !== null) found.push(finding('listener-untrusted', 'listener', name, untrusted))
  if (refused !== null) found.push(finding('listener-refuses', 'listener', name, refused))
  // a server shows the same leaf where it dials, and the other side asks for clientAuth (nats-facts 1.12)
  const links = servers.find((one) => one.name === server)?.links ?? []
  const dials = links.some((link) => link === kind) || ['cluster', 'gateway'].includes(kind)
  if (forClients === false && dials)
    found.push(finding('leaf-not-for-clients', 'listener', name, 'its certificate has no clientAuth'))
  return found
}

function judgeConfigs(agent: string, configs: readonly ConfigStatus[]): Finding[] {
  if (configs.length === 0)
    return [finding('config-not-seen', 'server', agent, 'its agent does not see the configuration file')]
  return configs.flatMap(({ name, edited, refused }) => {
    if (refused !== null) return [finding('config-refused', 'server', name, refused)]
    return edited === null ? [] : [finding('config-edited', 'server', name, edited)]
  })
}
