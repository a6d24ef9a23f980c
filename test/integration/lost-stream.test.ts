/**
 * What the issuer has on NATS is lost, and agents refuse every version they have seen. The server is stopped, its
 * JetStream files are changed, and it is started again. 1. Everything is gone while the issuer is down. 2. Everything is
 * gone under a running issuer. 3. The state is an old one, as from a backup. 4. State and kept bundles are gone, the
 * stream is there. Each time the issuer says so, versions go on, agents accept, and the domain rotates.
 */
import assert from 'node:assert/strict'
import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const SERVICES = ['orders']

class Losses {
  readonly domain: RunningDomain
  readonly bundles: string

  constructor(domain: RunningDomain) {
    this.domain = domain
    this.bundles = join(domain.local.dir, 'issuer', 'keys', 'bundles')
  }

  /** With the server down. */
  async lose(work: (storage: string) => Promise<void>): Promise<void> {
    const { local, serverNames } = this.domain
    await this.domain.hangUp()
    await local.servers[0]?.stop()
    await work(join(local.dir, 'servers', serverNames[0] ?? '', 'jetstream'))
    await local.startServer(0)
  }

  /** The issuer told from which version it went on, all agents follow, and another rotation goes through. */
  async goesOn(lost: number): Promise<void> {
    const { domain } = this
    const told = () =>
      domain.events.flatMap((event) => (event.type === 'rebuilt' ? [event.version] : [])).at(-1)
    await eventually(() => told() === lost, { timeout: PATIENCE, interval: 100 })
    const settled = await domain.settled()
    assert.ok(settled.version >= lost)
    assert.equal(settled.rebuilt?.version, lost)
    const rotated = await domain.rotate()
    assert.ok(rotated.version > lost)
    for (const { name, status } of rotated.agents) {
      assert.deepEqual([status?.version, status?.lastError], [rotated.version, null], name)
    }
    const history = await domain.history()
    const versions = history.map(({ payload }) => payload.version)
    assert.deepEqual(
      versions,
      [...versions].sort((a, b) => a - b),
      'no version was published after a higher one',
    )
    domain.events.length = 0
  }
}

test('an issuer that lost its stream, its state or both goes on where the fleet is', {
  timeout: 280_000,
}, async (t) => {
  await using domain = await RunningDomain.start({ services: SERVICES.map((name) => ({ name })) })
  await domain.startAll(SERVICES)
  const losses = new Losses(domain)
  const { version: first } = await domain.rotate()
  const kept = async () => (await readdir(losses.bundles)).sort()
  assert.deepEqual(await kept(), ['1.jws', '2.jws', '3.jws'].slice(0, first))
  const restartIssuer = async (work: (storage: string) => Promise<void>) => {
    await domain.stopIssuer()
    await losses.lose(work)
    await domain.startIssuer()
  }
  const everything = (storage: string) => rm(storage, { recursive: true, force: true })

  await t.test('everything is gone, and the issuer starts again', async () => {
    const { version } = await domain.overview()
    await restartIssuer(everything)
    await losses.goesOn(version)
    const [oldest] = await domain.history()
    assert.equal(oldest?.payload.version, version, 'the newest one went out again, not version 1')
  })

  await t.test('everything is gone under a running issuer', async () => {
    const { version } = await domain.overview()
    await losses.lose(everything)
    await losses.goesOn(version)
  })

  await t.test('the state is an old one', async () => {
    const copy = join(domain.local.dir, 'backup')
    await restartIssuer((storage) => cp(storage, copy, { recursive: true }))
    const { version } = await domain.rotate()
    await restartIssuer(async (storage) => {
      await everything(storage)
      await cp(copy, storage, { recursive: true })
    })
    await losses.goesOn(version)
  })

  await t.test('state and kept bundles are gone, the stream is there', async () => {
    const { version } = await domain.overview()
    await restartIssuer(async (storage) => {
      const found = await readdir(storage, { recursive: true })
      const state = found.find((path) => path.endsWith(`KV_${domain.names.stateBucket}`))
      assert.ok(state, `the state bucket is not in ${found.join(', ')}`)
      await rm(join(storage, state), { recursive: true })
      await rm(losses.bundles, { recursive: true })
    })
    await losses.goesOn(version)
  })
})
