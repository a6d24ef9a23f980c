/**
 * kill -9 at every step boundary, with real processes. In each rotation: 1. the victim is told where to die.
 * 2. A rotation is ordered, and the victim dies there. 3. It is started again, to die at the next of its boundaries, and
 * after the last one plainly. 4. The domain converges: everybody has the newest bundle and a leaf of the signing
 * authority, and the one before has left trust.
 * All the while a reader process reads the public paths of the victims, and never finds a torn or a missing set.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Child, ChildEvent } from '../../demo/child.ts'
import { EmbeddedAuthority } from '../../issuer/authority/embedded.ts'
import { applyStep } from '../../src/wire/status.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

/** Authorities leave trust as soon as nobody needs them, so each rotation has all its moves. */
const POLICY = { retireAfter: '0s' }
const SERVER = 'nats-1'
const SERVICE = 'orders'
const NEVER = new AbortController().signal

class Story implements AsyncDisposable {
  readonly domain: RunningDomain
  readonly #script: (name: string, point: string) => Promise<Child>
  readonly #victims: readonly string[]
  readonly #readings: ChildEvent[]
  readonly #reader: Child
  readonly #running = new Map<string, Child>()

  private constructor(
    domain: RunningDomain,
    victims: readonly string[],
    reader: Child,
    readings: ChildEvent[],
  ) {
    this.domain = domain
    this.#victims = victims
    this.#reader = reader
    this.#readings = readings
    const { founded } = domain.local
    this.#script = (name, point) => {
      const config = domain.agentConfig(name)
      const role = name === 'issuer' ? ['issuer', founded.issuerConfig, config] : ['agent', config, '']
      const args = [...role, point]
      return domain.local.start(`victim-${name}`, 'test/support/crashing-node', args)
    }
  }

  static async begin(victims: readonly string[], others: readonly string[]): Promise<Story> {
    const readings: ChildEvent[] = []
    const domain = await RunningDomain.start({
      services: [{ name: SERVICE }],
      policy: POLICY,
      onEvent: (event) => {
        if (event.type === 'readings') readings.push(event)
      },
    })
    try {
      for (const name of others) await (name === 'issuer' ? domain.startIssuer() : domain.startAgent(name))
      const dirs = victims.map((name) => domain.identityDir(name))
      const reader = await domain.local.start('reader', 'test/support/identity-reader', dirs)
      await reader.started('started', NEVER, PATIENCE)
      const story = new Story(domain, victims, reader, readings)
      await Promise.all(victims.map((name) => story.start(name)))
      await story.converged()
      return story
    } catch (cause) {
      await domain.stop()
      throw cause
    }
  }

  async start(name: string): Promise<void> {
    const child = await this.#script(name, '')
    await child.started('started', NEVER, PATIENCE)
    this.#running.set(name, child)
  }

  /** Everybody has what is newest, and only one authority is trusted. */
  async converged(above = -1): Promise<void> {
    const nodes = [...this.domain.agents.keys(), ...this.#victims]
    await this.domain.settled(nodes, (now) => now.active > above && now.authorities.length === 1)
  }

  /** One rotation, in which each victim dies at each of these, which come in this order. */
  async dieAt([first = '', ...more]: readonly string[]): Promise<void> {
    const { active } = await this.domain.overview()
    for (const child of this.#running.values()) {
      child.send(first)
      await child.started('armed', NEVER, PATIENCE)
    }
    await this.domain.order(`to die at ${first}`)
    // each by itself: the service follows the server, and dies after it
    await Promise.all(
      [...this.#running].map(async ([name, child]) => {
        const died = async (victim: Child, at: string) =>
          assert.equal(await victim.exited, 'SIGKILL', `${name} dies at ${at}`)
        await died(child, first)
        for (const point of more) await died(await this.#script(name, point), point)
        await this.start(name)
      }),
    )
    await this.converged(active)
    assert.deepEqual(chainProblems(await this.domain.history()), [])
  }

  /** What the reader saw. */
  async readings(): Promise<ChildEvent> {
    await this.#reader.stop()
    const [found] = this.#readings
    assert.ok(found, 'the reader told what it saw')
    return found
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.domain.stop()
  }
}

const AGENT_POINTS = [...applyStep.options.filter((step) => step !== 'idle'), 'applied']

/** In the order of a rotation, each before and after. */
const ISSUER_POINTS = [
  'effect * create-authority',
  'commit * prepare',
  'effect * publish-bundle',
  'commit * activate',
  'effect * probe-servers',
  'commit * converge',
  'commit * retire',
  'effect * delete-authority',
].flatMap((point) => ['before', 'after'].map((when) => point.replace('*', when)))

/** Those of one rotation are far apart, so that what died does some work in between. */
const inRotations = (points: readonly string[], rotations: number): string[][] =>
  Array.from({ length: rotations }, (_, i) => points.filter((_, at) => at % rotations === i))

interface Killed {
  readonly who: string
  readonly victims: readonly string[]
  readonly others: readonly string[]
  readonly rotations: readonly (readonly string[])[]
}

const STORIES: readonly Killed[] = [
  {
    who: 'the agents of a server and of a service',
    victims: [SERVER, SERVICE],
    others: ['issuer'],
    rotations: inRotations(AGENT_POINTS, 5),
  },
  {
    who: 'the issuer',
    victims: ['issuer'],
    others: [SERVER, SERVICE],
    rotations: inRotations(ISSUER_POINTS, 4),
  },
]

describe('kill -9 at every step boundary', { concurrency: true, timeout: 300_000 }, () => {
  for (const { who, victims, others, rotations } of STORIES) {
    describe(who, { concurrency: 1 }, () => {
      let story: Story
      before(async () => {
        story = await Story.begin(victims, others)
      })
      after(async () => {
        await story?.[Symbol.asyncDispose]()
      })

      for (const points of rotations) {
        test(`${who}, killed at ${points.join(', then at ')}: started again, the domain converges`, async () => {
          await story.dieAt(points)
        })
      }

      test(`${who}: no key of an authority that left trust is kept`, async () => {
        const { domain } = story
        const keys = new EmbeddedAuthority({
          domain: domain.names.domain,
          dir: join(domain.local.dir, 'issuer', 'keys'),
        })
        const held = await keys.list()
        const trusted = (await domain.overview()).authorities
        assert.deepEqual(
          held.map((authority) => authority.sha256),
          trusted.map((authority) => authority.sha256),
        )
      })

      test(`${who}: no reader ever found a torn or a missing set`, async (t) => {
        const { reads, generations, problems } = await story.readings()
        t.diagnostic(`${reads} reads of ${generations} generations`)
        assert.deepEqual(problems, [])
        assert.ok(Number(generations) > 2 * rotations.length, 'it saw the sets change')
      })
    })
  }
})
