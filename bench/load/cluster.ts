/**
 * A real cluster of three with TLS, founded as any domain, and two generations of one service's material: leaves of
 * two authorities that all nodes trust, so that the service can move from one to the other and back, as often as one
 * likes. The servers are not touched.
 */
import { dirname, join } from 'node:path'
import { type LocalDomain, makeLocalDomain } from '../../demo/domain.ts'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { openDirectory } from '../../src/identity/directory.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { readIdentity, snapshotOf } from '../../src/identity/read.ts'
import type { NatsBinary } from '../../src/local/nats-server.ts'
import { epochEnd, type Schedule } from '../../src/schedule.ts'
import { makeCsr, parseCsr } from '../../src/trust/csr.ts'
import { generateKeyPair, privateKeyToPem } from '../../src/trust/keys.ts'
import { domainNames } from '../../src/wire/names.ts'
import { loadGrants } from './flows.ts'

export interface LoadClusterOptions {
  /** Names of the runs of the load that its users may make: letters and digits. */
  readonly runs: readonly string[]
  /** @default the newest nats-server */
  readonly binary?: NatsBinary
}

export interface LoadCluster extends AsyncDisposable {
  readonly domain: LocalDomain
  /** `tls://host:port` of the servers. */
  readonly addresses: readonly string[]
  /** Of the service that moves. */
  readonly generations: readonly [IdentitySnapshot, IdentitySnapshot]
  readonly inboxPrefix: string
  readonly peers: PeerAccess
}

/** How the other side connects; plain data, for another thread. */
export interface PeerAccess {
  readonly key: string
  readonly cert: string
  readonly ca: string
  readonly inboxPrefix: string
}

const MOVED = 'moved'
const PEER = 'peer'
const EPOCH = 6 * 3_600_000

export async function startLoadCluster(options: LoadClusterOptions): Promise<LoadCluster> {
  const grants = loadGrants(options.runs)
  await using cleanup = new AsyncDisposableStack()
  const domain = cleanup.use(
    await makeLocalDomain({
      epochDuration: EPOCH,
      servers: 3,
      services: [MOVED, PEER].map((name) => ({ name, ...grants })),
      ...(options.binary === undefined ? {} : { binary: options.binary }),
    }),
  )
  const second = await makeSecondAuthority(domain)
  for (const { name } of domain.plans) await trustAlso(identityDir(domain, name), second.certificate)
  await domain.startServers()
  const names = domainNames(domain.name)
  const first = await readIdentity(identityDir(domain, MOVED))
  const peer = await readIdentity(identityDir(domain, PEER))
  const ca = first.ca + second.certificate
  const material = { ...(await second.sign(names.spiffeId(MOVED))), ca }
  const owned = cleanup.move()
  return {
    domain,
    addresses: domain.plans.map(({ host, clientPort }) => `tls://${host}:${clientPort}`),
    generations: [
      named({ key: first.key, certificate: first.certificate, ca }, 'first'),
      named(material, 'second'),
    ],
    inboxPrefix: names.inbox(MOVED),
    peers: { key: peer.key, cert: peer.certificate, ca: peer.ca, inboxPrefix: names.inbox(PEER) },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

const identityDir = (domain: LocalDomain, name: string): string =>
  join(dirname(domain.founded.agentConfigs[name] ?? ''), 'identity')

const named = (material: Pick<IdentitySnapshot, 'key' | 'certificate' | 'ca'>, generation: string) =>
  snapshotOf(material, { generation, version: 0 }, undefined, {}, `the ${generation} generation`)

interface SecondAuthority {
  /** PEM. */
  readonly certificate: string
  sign(uri: string): Promise<Pick<IdentitySnapshot, 'key' | 'certificate'>>
}

async function makeSecondAuthority(domain: LocalDomain): Promise<SecondAuthority> {
  const { schedule, founded } = domain
  const dir = join(dirname(founded.issuerConfig), 'keys')
  const authority = new EmbeddedAuthority({ domain: domain.name, dir })
  const epoch = founded.epoch + 1
  const window = windowOf(schedule, epoch)
  const { certificate } = await authority.prepare(epoch, window)
  return {
    certificate,
    async sign(uri) {
      const keyPair = await generateKeyPair()
      const csr = await parseCsr(await makeCsr(keyPair, { subject: MOVED }))
      const names = { dns: [], ip: [], uri: [uri] }
      const chain = await authority.sign(epoch, { csr, commonName: MOVED, names, ...window })
      return { key: privateKeyToPem(keyPair.privateKey), certificate: chain }
    },
  }
}

/** From now, as it is used before its epoch. */
const windowOf = (schedule: Schedule, epoch: number) => ({
  notBefore: Date.now() - schedule.lead,
  notAfter: epochEnd(schedule, epoch),
})

/** A next generation of this node that also trusts `authority`. */
async function trustAlso(dir: string, authority: string): Promise<void> {
  const { key, certificate, ca } = await readIdentity(dir)
  await using directory = await openDirectory(dir)
  const manifest = (await directory.current())?.manifest
  if (manifest === undefined) throw new TypeError(`${dir}: no generation`)
  const { version, digest, epoch } = manifest
  const material = { key, certificate, ca: ca + authority }
  await directory.publish(await directory.stage(material, { version, digest, epoch }, Date.now()))
}
