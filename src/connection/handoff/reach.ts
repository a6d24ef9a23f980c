/** Where does the second connection go? To the server we are on; when that can not be dialled any more, to another one. */
import { promises as dns } from 'node:dns'
import { isIP } from 'node:net'
import type { ClientOptions, ClientProtocol, DialTarget, Internals, KnownServer } from './internals.ts'
import { SecondConnection, type SecondOptions } from './second.ts'

export interface ReachOptions extends SecondOptions {
  /** Dials to our own address that may land on another server before that is taken. */
  readonly tries: number
}

export interface Reached {
  readonly second: SecondConnection
  readonly sameServer: boolean
  /** The server of the client's list that it is to, when it is not the one that the connection in use was dialled for. */
  readonly elsewhere: KnownServer | null
}

/**
 * A server that can not be dialled (its certificate ended, it does not take ours) must not hold us back until our own
 * certificate ends, too. Throws why our own server was not reached, when no other was.
 */
export async function reach(
  internals: Internals,
  client: ClientOptions,
  options: ReachOptions,
): Promise<Reached> {
  const { protocol } = internals
  const dial = async (to: DialTarget, elsewhere: KnownServer | null): Promise<Reached> => {
    const second = await SecondConnection.dial(internals, to, client, options)
    return { second, sameServer: second.info.server_id === protocol.info?.server_id, elsewhere }
  }
  try {
    for (let left = options.tries; ; left -= 1) {
      const reached = await dial(sameAddress(protocol), null)
      if (reached.sameServer || left <= 1) return reached
      reached.second.discard()
    }
  } catch (cause) {
    for (const { to, elsewhere } of await others(protocol)) {
      options.signal.throwIfAborted()
      const reached = await dial(to, elsewhere).catch(() => null)
      if (reached !== null) return reached
    }
    throw cause
  }
}

/** Where the connection is now. By address, because a name may lead to another server. */
function sameAddress(protocol: ClientProtocol): DialTarget {
  const { transport } = protocol
  const { remoteAddress, remotePort } = transport.socket ?? {}
  if (remoteAddress === undefined || remotePort === undefined)
    throw new Error('the connection is not connected')
  const { hostname } = protocol.servers.getCurrentServer()
  // Not resolved by the client: then the name is what the certificate is checked for.
  const byName = transport.tlsName === '' && isIP(hostname) === 0
  return { hostname: byName ? hostname : remoteAddress, port: remotePort, tlsName: transport.tlsName }
}

/** Other addresses of the name that we are connected to, as of now, then the other servers that the client knows. */
async function others(
  protocol: ClientProtocol,
): Promise<{ readonly to: DialTarget; readonly elsewhere: KnownServer | null }[]> {
  const here = protocol.servers.getCurrentServer()
  const { hostname, port } = here
  const found = isIP(hostname) === 0 ? await dns.lookup(hostname, { all: true }).catch(() => []) : []
  const ours = protocol.transport.socket?.remoteAddress
  const addresses = found.map(({ address }) => address).filter((address) => address !== ours)
  return [
    ...addresses.map((address) => ({
      to: { hostname: address, port, tlsName: hostname },
      elsewhere: null,
    })),
    ...protocol.servers
      .getServers()
      .filter(({ listen }) => listen !== here.listen)
      .map((other) => ({ to: named(other), elsewhere: other })),
  ]
}

/** The certificate of a server that is known by name must have that name. */
const named = ({ hostname, port, tlsName }: KnownServer): DialTarget => ({
  hostname,
  port,
  tlsName: tlsName === '' && isIP(hostname) === 0 ? hostname : tlsName,
})
