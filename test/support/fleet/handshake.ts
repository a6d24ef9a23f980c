/** What a handshake with the server of a machine shows to the process that dials it. */
import type { Duration } from '../../../src/time.ts'
import type { AgentMachine } from './agent-machine.ts'
import { type Leaf, readLeaf, trustedIn } from './leaf.ts'
import type { Network } from './network.ts'
import { currentProcess, type Timeline } from './timeline.ts'

const PATIENCE: Duration = 3_000

export interface Handshake {
  /** The server took the leaf that was shown. */
  readonly accepted: boolean
  readonly served: Leaf
  /** The leaf it serves is by an authority of the trust file that was brought. */
  readonly trusted: boolean
  readonly untrusted: string
}

export function handshake(
  {
    network,
    timeline,
    servers,
  }: { readonly network: Network; readonly timeline: Timeline; readonly servers: readonly AgentMachine[] },
  address: string,
  material: { readonly ca: string; readonly certificate: string },
): Promise<Handshake> {
  const server = servers.find(({ name }) => address.startsWith(`${name}:`))
  return network.askLater<Handshake>(currentProcess(), `probe of ${address}`, PATIENCE, (answer) => {
    // nobody answers for a machine without power, or that is cut off
    if (server?.loaded == null || network.isCut(server.name)) return
    const shown = readLeaf(material.certificate)
    const served = readLeaf(server.loaded.certificate)
    answer({
      accepted: server.trusts(shown.issuer) && shown.notAfter > timeline.now,
      served,
      trusted: trustedIn(material.ca).has(served.issuer) && served.notAfter > timeline.now,
      untrusted: 'not by the authorities of the staged trust file',
    })
  })
}
