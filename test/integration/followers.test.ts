/**
 * What lives in the process of an agent and stands on its identity: here a TLS server of a service.
 * 1. It joins the identity, and clients connect. 2. A rotation moves it: new handshakes are served the new leaf, and
 * its words are in the status. 3. The connections of before are open; their count is in the status and keeps the old
 * authority in trust. 4. They end, and the authority retires. 5. It refuses to follow: the old generation is put back,
 * and it is asked to follow that one; mended, the rotation goes through.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { connect, createServer, type TLSSocket } from 'node:tls'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { type Follower, SocketCount } from '../../src/identity/usage.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const keysOf = ({ key, certificate }: IdentitySnapshot) => ({ key, cert: certificate })

/** A server that follows, as long as it is not told to refuse. */
class Service implements Follower {
  readonly type = 'server'
  readonly name = 'api'
  readonly asked: string[] = []
  refuses = false
  readonly #server
  readonly #sockets = new SocketCount(this)
  #made: IdentitySnapshot

  constructor(first: IdentitySnapshot) {
    this.#made = first
    this.#server = createServer(keysOf(first))
    this.#server.on('secureConnection', (socket) => {
      const closed = this.#sockets.opened(this.#made)
      socket.on('close', closed).on('error', () => {})
      socket.resume()
    })
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  async follow(next: IdentitySnapshot): Promise<string> {
    this.asked.push(next.generation)
    if (this.refuses) throw new Error('the service says no')
    this.#server.setSecureContext(keysOf(next))
    this.#made = next
    return `serves ${next.generation}`
  }

  usage() {
    return this.#sockets.usage()
  }

  async dial(): Promise<TLSSocket> {
    const { port } = this.#server.address() as AddressInfo
    // Whose leaf it is, is what the test looks at.
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    socket.on('error', () => {})
    return socket
  }

  async close(): Promise<void> {
    this.#server.close()
    await once(this.#server, 'close')
  }
}

const servedTo = (socket: TLSSocket): string =>
  socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase()

test('a server in the process of its agent is moved, counted, and keeps an authority in trust', {
  timeout: 180_000,
}, async () => {
  await using domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
  // one of two clients refuses in the end, and the rotation waits for it
  await domain.startAll(['orders'], { retireAfter: 0, maxFailures: { servers: 0, clients: 1 } })
  const agent = domain.agents.get('orders')
  assert.ok(agent)
  const { identity } = agent
  await using cleanup = new AsyncDisposableStack()

  // 1. it joins, and clients connect
  const service = new Service(identity.current())
  await service.listen()
  cleanup.defer(() => service.close())
  const leave = identity.join(service)
  const first = identity.current()
  const clients = [await service.dial(), await service.dial()]
  cleanup.defer(() => clients.forEach((client) => void client.destroy()))
  await eventually(() => service.usage()[0]?.sockets === 2)
  assert.deepEqual(agent.status().usage, [])

  // 2. a rotation moves it, and 3. the connections of before are told and hold the authority
  await domain.order()
  const missing = '2 sockets accepted by api still stand on a leaf of epoch 0'
  const held = await eventually(
    async () => {
      const overview = await domain.overview()
      // connections of the agents that were counted while they moved are gone with the next count
      assert.deepEqual(overview.waitingFor, [{ name: 'orders', kind: 'agent', missing }])
      return overview.reason === 'authority-still-needed' && overview
    },
    { timeout: PATIENCE, interval: 100 },
  )
  const second = identity.current()
  assert.deepEqual([held.phase, held.authorities.length], ['steady', 2])
  const status = held.agents.find(({ name }) => name === 'orders')?.status
  assert.equal(status?.leaf.fingerprint, second.leaf.sha256)
  assert.deepEqual(
    status.targets.map(({ type, name, evidence, fingerprint }) => ({ type, name, evidence, fingerprint })),
    [
      {
        type: 'server',
        name: 'api',
        evidence: `serves ${second.generation}`,
        fingerprint: second.leaf.sha256,
      },
    ],
  )
  assert.deepEqual(
    status.usage.map(({ name, leaf, issuerEpoch, sockets }) => ({ name, leaf, issuerEpoch, sockets })),
    [{ name: 'api', leaf: first.leaf.sha256, issuerEpoch: 0, sockets: 2 }],
  )
  const late = await service.dial()
  cleanup.defer(() => void late.destroy())
  assert.equal(servedTo(late), second.leaf.sha256)

  // 4. they end, and the authority retires
  for (const client of clients) client.destroy()
  await domain.settled(undefined, (now) => now.authorities.length === 1)
  assert.deepEqual(agent.status().usage, [])

  // 5. it refuses: put back, and asked to follow what was before; mended it goes on
  late.destroy()
  const { generation } = identity.current()
  service.asked.length = 0
  service.refuses = true
  await domain.order()
  const refused = await eventually(() => agent.status().state === 'rolled-back' && agent.status(), {
    timeout: PATIENCE,
  })
  assert.deepEqual(
    [refused.lastError?.code, refused.lastError?.message],
    ['ERR_NOTIFY_FAILED', 'server api: the service says no'],
  )
  assert.equal(identity.current().generation, generation)
  assert.ok(service.asked.includes(generation), service.asked.join(', '))
  service.refuses = false
  const done = await domain.settled(undefined, (now) => now.active > held.active)
  assert.ok(done.agents.every((one) => one.status?.leaf.issuerEpoch === done.active))

  // who has left is not asked any more
  leave()
  service.asked.length = 0
  await domain.rotate()
  assert.deepEqual(service.asked, [])
})
