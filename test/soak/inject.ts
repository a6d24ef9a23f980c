/** Does to the running domain what was planned, and mends it: returns when everything that was hit runs again. */
import { Vault } from '../../issuer/authority/vault/client.ts'
import { RotorError } from '../../src/errors.ts'
import { silentLogger } from '../../src/log.ts'
import { type Duration, sleep } from '../../src/time.ts'
import type { FaultKind, PlannedFault } from './faults.ts'
import type { Fleet } from './fleet.ts'
import { SOAK_STREAM } from './service.ts'

/** Returns what was hit. */
type Injection = (fleet: Fleet, fault: PlannedFault, signal: AbortSignal) => Promise<string>

const INJECTIONS: Readonly<Record<FaultKind, Injection>> = {
  'issuer killed': (fleet, fault, signal) => killNode(fleet, fleet.leader, fault.lasts, signal),
  'issuer frozen': (fleet, fault, signal) => freezeNode(fleet, fleet.leader, fault.lasts, signal),
  'agent killed': (fleet, fault, signal) => killNode(fleet, serverOf(fleet, fault), fault.lasts, signal),
  'agent frozen': (fleet, fault, signal) => freezeNode(fleet, serverOf(fleet, fault), fault.lasts, signal),
  'server killed': async (fleet, fault, signal) => {
    const server = serverOf(fleet, fault)
    await stopServers(fleet, [server], 'SIGKILL', fault.lasts, signal)
    return server
  },
  'server stopped': async (fleet, fault, signal) => {
    const server = serverOf(fleet, fault)
    await stopServers(fleet, [server], 'SIGTERM', fault.lasts, signal)
    return server
  },
  'server frozen': async (fleet, fault, signal) => {
    const name = serverOf(fleet, fault)
    const server = fleet.domain.local.servers[fleet.domain.serverNames.indexOf(name)]
    fleet.hit(name, 'frozen')
    server?.kill('SIGSTOP')
    await sleep(fault.lasts, signal).finally(() => server?.kill('SIGCONT'))
    return name
  },
  'all servers down': async (fleet, fault, signal) => {
    const servers = fleet.domain.serverNames
    await stopServers(fleet, servers, fault.target < 0.5 ? 'SIGKILL' : 'SIGTERM', fault.lasts, signal)
    return fault.target < 0.5 ? 'killed' : 'stopped'
  },
  'service killed': async (fleet, fault, signal) => {
    const name = oneOf(fleet.services, fault)
    fleet.hit(name, 'killed')
    return killNode(fleet, name, fault.lasts, signal)
  },
  'service busy': async (fleet, fault) => {
    const name = oneOf(fleet.services, fault)
    fleet.processOf(name).send(`busy ${fault.lasts}`)
    return name
  },
  'stream leader moved': async (fleet) => {
    // what was delivered and not acknowledged yet may come again from the next leader
    fleet.hit(SOAK_STREAM, 'moved')
    await fleet.moveLeader()
    return SOAK_STREAM
  },
  'engine sealed': async (fleet, fault, signal) => {
    const { bao } = engineOf(fleet)
    await bao.seal()
    await sleep(fault.lasts, signal).finally(() => bao.unseal())
    return 'openbao'
  },
  'engine stopped': async (fleet, fault, signal) => {
    const { bao } = engineOf(fleet)
    await bao.stop()
    await sleep(fault.lasts, signal).finally(() => bao.start())
    return 'openbao'
  },
  'engine frozen': async (fleet, fault, signal) => {
    const { bao } = engineOf(fleet)
    bao.pause()
    await sleep(fault.lasts, signal).finally(() => bao.resume())
    return 'openbao'
  },
  'tokens revoked': async (fleet) => {
    const { bao, config } = engineOf(fleet)
    const root = { config, name: 'operator', token: bao.rootToken, logger: silentLogger }
    await using operator = await Vault.open(root)
    let revoked = 0
    for (const accessor of await operator.list('auth/token/accessors')) {
      const { path } = await operator.write('auth/token/lookup-accessor', { accessor })
      if (path !== 'auth/approle/login') continue
      await operator.write('auth/token/revoke-accessor', { accessor })
      revoked += 1
    }
    return `${revoked} of the issuers`
  },
}

export const inject: Injection = (fleet, fault, signal) => INJECTIONS[fault.kind](fleet, fault, signal)

async function killNode(fleet: Fleet, node: string, lasts: Duration, signal: AbortSignal): Promise<string> {
  await fleet.killNode(node)
  await sleep(lasts, signal)
  await fleet.startNode(node)
  return node
}

async function freezeNode(fleet: Fleet, node: string, lasts: Duration, signal: AbortSignal): Promise<string> {
  const child = fleet.processOf(node)
  child.kill('SIGSTOP')
  await sleep(lasts, signal).finally(() => child.kill('SIGCONT'))
  return node
}

async function stopServers(
  fleet: Fleet,
  names: readonly string[],
  how: 'SIGKILL' | 'SIGTERM',
  lasts: Duration,
  signal: AbortSignal,
): Promise<void> {
  const { local, serverNames } = fleet.domain
  const what = how === 'SIGKILL' ? 'killed' : 'stopped'
  for (const name of names) fleet.hit(name, what)
  const which = names.map((name) => serverNames.indexOf(name))
  await Promise.all(
    which.map(async (i) => {
      local.servers[i]?.kill(how)
      await local.servers[i]?.exited
    }),
  )
  await sleep(lasts, signal)
  await Promise.all(which.map((i) => local.startServer(i)))
}

function oneOf<T>(all: readonly T[], { target }: PlannedFault): T {
  const found = all[Math.floor(target * all.length)]
  if (found === undefined) throw new TypeError('expected something to hit')
  return found
}

const serverOf = (fleet: Fleet, fault: PlannedFault): string => oneOf(fleet.domain.serverNames, fault)

function engineOf(fleet: Fleet) {
  const { openBao } = fleet.domain.local
  if (openBao === null) throw new RotorError('ERR_USAGE', 'this fault needs --authority openbao')
  return openBao
}
