/** Generations of an identity for tests of TLS, and one connection looked at closely. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type ConnectionOptions, connect, type Server, type TLSSocket } from 'node:tls'
import { HeldIdentity, type IdentitySnapshot } from '../../src/identity/identity.ts'
import { snapshotOf } from '../../src/identity/read.ts'
import type { Epoch } from '../../src/schedule.ts'
import { clientTls } from '../../src/tls/contexts.ts'
import { makeTestDomain, type TestDomain } from './test-domain.ts'

export interface Generations {
  readonly domain: TestDomain
  readonly older: Epoch
  readonly newer: Epoch
  /** A leaf of this epoch's authority, and trust in these. */
  make(epoch: Epoch, trusted: readonly Epoch[]): Promise<IdentitySnapshot>
  /** The same leaf with other trust. */
  trusting(snapshot: IdentitySnapshot, trusted: readonly Epoch[]): IdentitySnapshot
}

export async function makeGenerations(): Promise<Generations> {
  const domain = await makeTestDomain()
  const [older, newer] = [domain.epoch - 1, domain.epoch]
  let made = 0
  const snapshot = (key: string, certificate: string, trusted: readonly Epoch[]): IdentitySnapshot => {
    const ca = trusted.map((epoch) => domain.authority(epoch).certificate.pem).join('')
    made += 1
    return snapshotOf(
      { key, certificate, ca },
      { generation: `${made}-1`, version: made },
      undefined,
      {},
      'test',
    )
  }
  return {
    domain,
    older,
    newer,
    make: async (epoch, trusted) => {
      const { keyPem, chainPem } = await domain.leaf({ epoch })
      return snapshot(keyPem, chainPem, trusted)
    },
    trusting: (of, trusted) => snapshot(of.key, of.certificate, trusted),
  }
}

/** The three steps of a rotation: trust both, use the newer one, trust only it. */
export async function rotationOf(generations: Generations): Promise<IdentitySnapshot[]> {
  const { older, newer, make, trusting } = generations
  const first = await make(older, [older])
  const last = await make(newer, [newer, older])
  return [first, trusting(first, [older, newer]), last, trusting(last, [newer])]
}

export const held = (snapshot: IdentitySnapshot): HeldIdentity => new HeldIdentity(snapshot)

export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return portOf(server)
}

export const portOf = (server: Server): number => (server.address() as AddressInfo).port

export const leafOf = (socket: TLSSocket): string =>
  (socket.getPeerX509Certificate()?.fingerprint256 ?? '').replaceAll(':', '').toLowerCase()

/** A client that is done with its handshake. In TLS 1.3 that is no word of the server about its certificate. */
export async function dialled(
  port: number,
  client: IdentitySnapshot,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ...clientTls(client),
    ...options,
  })
  socket.on('error', () => {})
  await once(socket, 'secureConnect')
  return socket
}

/** What a server that greets says; null when it refuses. The server must send something to those it takes. */
export async function greeting(
  port: number,
  client: IdentitySnapshot,
  options: ConnectionOptions = {},
): Promise<{ leaf: string; reused: boolean; session: Buffer | undefined } | null> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ...clientTls(client),
    ...options,
  })
  return await new Promise((resolve) => {
    let session = options.session
    socket.on('session', (next: Buffer) => {
      session = next
    })
    let said = false
    socket.on('error', () => {})
    socket.on('data', () => {
      said = true
    })
    let leaf = ''
    let reused = false
    socket.once('secureConnect', () => {
      leaf = leafOf(socket)
      reused = socket.isSessionReused()
    })
    socket.once('close', () => resolve(said ? { leaf, reused, session } : null))
  })
}
