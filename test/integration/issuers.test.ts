/**
 * More than one issuer on real servers: one leads, and whatever happens to it, another one goes on. Frozen for longer than
 * its lease at the worst moments, a former leader wakes up with a write in its hand, and that write changes nothing.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { renderOverview } from '../../cli/commands/status.ts'
import type { Child, ChildEvent } from '../../demo/child.ts'
import { editJson, type LocalDomainOptions } from '../../demo/domain.ts'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { readState } from '../../issuer/store.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const POLICY = { retireAfter: '0s' }
const PASSPHRASE = 'of the shared key store'
const NEVER = new AbortController().signal
const patient = { timeout: PATIENCE, interval: 50 }

let dir: string
let passphraseFile: string
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rotor-issuers-'))
  passphraseFile = join(dir, 'passphrase')
  await writeFile(passphraseFile, PASSPHRASE, { mode: 0o600 })
})
after(() => rm(dir, { recursive: true, force: true }))

const start = (issuers: readonly string[], more: Partial<LocalDomainOptions> = {}) =>
  RunningDomain.start({ issuers, passphraseFile, services: [{ name: 'orders' }], policy: POLICY, ...more })

const leaderOf = (domain: RunningDomain) =>
  eventually(async () => (await domain.overview()).lease?.holder, patient)

/** Everything that may not be true after a change of the leader. */
async function assertSound(domain: RunningDomain): Promise<void> {
  assert.deepEqual(
    chainProblems(await domain.history()),
    [],
    'each version once, each follows the one before',
  )
  const keys = new EmbeddedAuthority({
    domain: domain.names.domain,
    dir: join(domain.local.dir, 'issuer', 'keys'),
    passphrase: PASSPHRASE,
  })
  // the key of an authority that retires goes right after the bundle
  await eventually(async () => {
    const { authorities } = await domain.overview()
    assert.deepEqual(
      (await keys.list()).map(({ sha256 }) => sha256),
      authorities.map(({ sha256 }) => sha256),
      'the key store has the keys of the bundle, and no other',
    )
    return true
  }, patient)
}

/** Two issuers, each in a process of its own, on one encrypted key store. */
class Pair implements AsyncDisposable {
  readonly domain: RunningDomain
  readonly #events: ChildEvent[]
  readonly #running = new Map<string, Child>()

  private constructor(domain: RunningDomain, events: ChildEvent[]) {
    this.domain = domain
    this.#events = events
  }

  static async begin(): Promise<Pair> {
    const events: ChildEvent[] = []
    const domain = await start(['issuer', 'issuer-b'], { onEvent: (event) => events.push(event) })
    const pair = new Pair(domain, events)
    try {
      await editJson(domain.local.founded.issuerConfig, { lease: '2s' })
      for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
      await Promise.all(['issuer', 'issuer-b'].map((name) => pair.start(name)))
      await pair.settled()
      return pair
    } catch (cause) {
      await domain.stop()
      throw cause
    }
  }

  async start(name: string): Promise<void> {
    const { founded } = this.domain.local
    const args = ['issuer', founded.issuerConfig, this.domain.agentConfig(name)]
    const child = await this.domain.local.start(`victim-${name}`, 'test/support/crashing-node', args)
    await child.started('started', NEVER, PATIENCE)
    this.#running.set(name, child)
  }

  /** Both issuers have the newest bundle, too. */
  settled(above = -1) {
    const nodes = ['issuer', 'issuer-b', 'nats-1', 'orders']
    return this.domain.settled(nodes, (now) => now.active > above && now.authorities.length === 1)
  }

  /** Tells the leader what to do at a point, orders a rotation, and returns who it was and what came after. */
  async lead(
    point: string,
  ): Promise<{ leader: string; other: string; child: Child; active: number; from: number }> {
    const leader = await leaderOf(this.domain)
    const other = leader === 'issuer' ? 'issuer-b' : 'issuer'
    const { active } = await this.domain.overview()
    const child = this.#running.get(leader)
    assert.ok(child)
    const from = this.#events.length
    child.send(point)
    await this.said(leader, from, ({ type }) => type === 'armed')
    await this.domain.order(point)
    return { leader, other, child, active, from }
  }

  /** Waits for an event of a node among those after `from`. */
  async said(node: string, from: number, is: (event: ChildEvent) => boolean): Promise<ChildEvent> {
    return eventually(
      () => this.#events.slice(from).find((event) => event.node === node && is(event)),
      patient,
    )
  }

  since(node: string, from: number): ChildEvent[] {
    return this.#events.slice(from).filter((event) => event.node === node)
  }

  get now(): number {
    return this.#events.length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running.values()) child.kill('SIGCONT')
    await this.domain.stop()
  }
}

const isPoint = (point: string) => (event: ChildEvent) => event.type === 'point' && event.point === point
const afterwards = (point: string): string => point.replace('before', 'after')

const FROZEN_AT = [
  'effect before create-authority',
  'commit before prepare',
  'effect before publish-bundle',
  'commit before activate',
  'commit before retire',
  'effect before delete-authority',
]
const KILLED_AT = ['commit after prepare', 'commit after activate', 'commit after retire']

describe('more than one issuer', { concurrency: true, timeout: 300_000 }, () => {
  describe('the leader is frozen for longer than its lease', { concurrency: 1 }, () => {
    let pair: Pair
    before(async () => {
      pair = await Pair.begin()
    })
    after(() => pair?.[Symbol.asyncDispose]())

    for (const point of FROZEN_AT) {
      test(`frozen at "${point}": the other one goes on, and what the former leader does late changes nothing`, async () => {
        const { leader, other, child, active, from } = await pair.lead(`freeze ${point}`)
        await pair.said(leader, from, ({ type }) => type === 'frozen')
        await pair.said(other, from, ({ type }) => type === 'leads')
        await pair.said(other, from, isPoint(afterwards(point)))
        const thawed = pair.now
        child.kill('SIGCONT')
        await pair.said(leader, thawed, ({ type }) => type === 'stands-by')
        await pair.settled(active)
        await assertSound(pair.domain)
        const late = pair.since(leader, thawed).filter(({ type }) => type === 'point')
        if (point.startsWith('commit')) assert.deepEqual(late, [], 'its commit was refused')
        else
          assert.deepEqual(
            late.filter(({ point }) => String(point).startsWith('commit')),
            [],
          )
        const lead = pair.since(other, from).findLast(({ type }) => type === 'leads')
        const stored = await pair.domain.asOperator(({ nc, names }) => readState(nc, names))
        assert.equal(stored?.state.fence, lead?.fence)
      })
    }
  })

  describe('the leader is killed', { concurrency: 1 }, () => {
    let pair: Pair
    before(async () => {
      pair = await Pair.begin()
    })
    after(() => pair?.[Symbol.asyncDispose]())

    for (const point of KILLED_AT) {
      test(`killed at "${point}": the other one takes over, and the rotation goes on`, async (t) => {
        const { leader, other, child, active, from } = await pair.lead(point)
        assert.equal(await child.exited, 'SIGKILL')
        const died = performance.now()
        await pair.said(other, from, ({ type }) => type === 'leads')
        t.diagnostic(`took over after ${Math.round(performance.now() - died)} ms, with a lease of 2000 ms`)
        const restarted = pair.now
        await pair.start(leader)
        await pair.said(leader, restarted, ({ type }) => type === 'stands-by')
        await pair.settled(active)
        await assertSound(pair.domain)
      })
    }
  })

  test('an issuer that stops in order hands over at once, and who stands by signs as well', {
    timeout: 300_000,
  }, async () => {
    const names = ['issuer', 'issuer-b', 'issuer-c']
    await using domain = await start(names)
    // nobody could wait for the end of such a lease
    for (const name of names) await domain.startIssuer({}, { lease: 600_000 }, name)
    for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
    await domain.settled()
    const first = await leaderOf(domain)
    const others = names.filter((name) => name !== first)
    assert.match(
      renderOverview(await domain.overview()),
      new RegExp(
        `issuer .*${first}.* leads since .*${others.map((name) => `${name} stands by since`).join('.*')}`,
      ),
    )
    await domain.rotate()

    let leader = first
    for (let i = 0; i < 2; i += 1) {
      await domain.stopIssuer(leader)
      const next = await eventually(async () => {
        const holder = (await domain.overview()).lease?.holder
        return holder !== leader && holder
      }, patient)
      // its node stays in the domain
      await domain.startAgent(leader)
      await domain.rotate()
      await assertSound(domain)
      leader = next
    }
  })

  test('two issuers on OpenBao: when the leader stops, the other one rotates on', {
    timeout: 300_000,
  }, async () => {
    await using domain = await start(['issuer', 'issuer-b'], { authority: 'openbao' })
    for (const name of ['issuer', 'issuer-b']) await domain.startIssuer({}, { lease: 600_000 }, name)
    for (const name of ['nats-1', 'orders']) await domain.startAgent(name)
    await domain.rotate()
    await domain.stopIssuer('issuer')
    await domain.startAgent('issuer')
    await eventually(async () => (await domain.overview()).lease?.holder === 'issuer-b', patient)
    const now = await domain.rotate(undefined, ({ authorities }) => authorities.length === 1)
    assert.equal(now.lease?.fence, 2)
    assert.deepEqual(chainProblems(await domain.history()), [])
  })
})
