/**
 * What an attacker, or a mistake, can put on the bundle stream. Only the issuer may publish there, so all of it is
 * published with the issuer's own identity: 1. A domain has made some rotations, and one agent was restarted.
 * 2. Something that is no good bundle becomes the newest message. 3. Each agent refuses it with its own code, and
 * nothing changes on disk. 4. The next rotation goes through as if nothing had been.
 */
import assert from 'node:assert/strict'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { JetStreamApiError, jetstream } from '@nats-io/jetstream'
import { Acceptance } from '../../agent/acceptance.ts'
import { generateSigner, type Signer, signBundle, signerFromPem } from '../../src/bundle/envelope.ts'
import { encodePayload } from '../../src/bundle/payload.ts'
import type { RotorErrorCode } from '../../src/errors.ts'
import { openDirectory } from '../../src/identity/directory.ts'
import { formatInstant, systemClock } from '../../src/time.ts'
import { type BundlePayload, MAX_BUNDLE_BYTES } from '../../src/wire/bundle.ts'
import type { StreamBundle } from '../support/bundle-history.ts'
import { eventually } from '../support/eventually.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

const AGENTS = ['nats-1', 'orders']

describe('what is no good bundle on the live stream', { timeout: 240_000 }, () => {
  let domain: RunningDomain
  let signer: Signer

  before(async () => {
    domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
    signer = signerFromPem(await readFile(join(domain.local.dir, 'issuer', 'keys', 'signer.key'), 'utf8'))
    await domain.startAll(['orders'])
    await domain.rotate()
    await domain.stopAgent('orders')
    await domain.startAgent('orders')
    await domain.settled()
  })
  after(async () => {
    await domain?.stop()
  })

  async function newest(): Promise<StreamBundle> {
    const found = (await domain.history()).reduce((a, b) => (a.payload.version > b.payload.version ? a : b))
    assert.ok(found)
    return found
  }

  /** The newest bundle as an issuer would follow it up, with changes. */
  async function next(changes: Partial<BundlePayload> = {}): Promise<string> {
    const { payload, digest } = await newest()
    const now = Date.now()
    return encodePayload({
      ...payload,
      version: payload.version + 1,
      previous: digest,
      issuedAt: formatInstant(now),
      expiresAt: formatInstant(now + payload.schedule.validity),
      ...changes,
    })
  }

  const publish = (bytes: Uint8Array): Promise<unknown> =>
    domain.asOperator(({ nc, names }) => jetstream(nc).publish(names.bundleSubject, bytes))

  /** Everything of an agent that a bundle could change. */
  async function onDisk(name: string): Promise<unknown> {
    const dir = domain.identityDir(name)
    const read = (file: string) => readFile(join(dir, file), 'utf8')
    return {
      state: await read('state.json'),
      current: await readlink(join(dir, 'current')),
      generations: (await readdir(join(dir, 'generations'))).sort(),
      files: await Promise.all(['ca.pem', 'tls.crt', 'tls.key'].map(read)),
    }
  }

  const refusals = (name: string) =>
    domain.events.flatMap((event) => (event.node === name && event.type === 'refused' ? [event.code] : []))

  /** Publishes it, and returns when every agent has refused it with this code and nothing else has changed. */
  async function assertRefused(bytes: Uint8Array, code: RotorErrorCode): Promise<void> {
    const before = await Promise.all(AGENTS.map(onDisk))
    const known = new Map(AGENTS.map((name) => [name, refusals(name).length]))
    await publish(bytes)
    for (const name of AGENTS) {
      const refused = await eventually(() => refusals(name).slice(known.get(name)).at(0), {
        timeout: PATIENCE,
      })
      assert.equal(refused, code, name)
      const reported = await eventually(
        async () => (await domain.overview()).agents.find((agent) => agent.name === name)?.status?.lastError,
        { timeout: PATIENCE },
      )
      assert.equal(reported.code, code, name)
    }
    assert.deepEqual(await Promise.all(AGENTS.map(onDisk)), before)
  }

  /** The rotation goes on, and what was refused is not in its chain. */
  async function assertGoesOn(): Promise<void> {
    const before = await newest()
    const done = await domain.rotate()
    assert.ok(done.version > before.payload.version)
    const names = done.agents.filter(({ name }) => AGENTS.includes(name))
    assert.deepEqual(
      names.map(({ status }) => status?.lastError ?? null),
      [null, null],
    )
  }

  test('garbage is refused, and the next rotation goes through', async () => {
    await assertRefused(Buffer.from('not a bundle at all'), 'ERR_BUNDLE_MALFORMED')
    await assertGoesOn()
  })

  test('a truncated bundle is refused, and the next rotation goes through', async () => {
    const { envelope } = await newest()
    await assertRefused(envelope.subarray(0, envelope.length / 2), 'ERR_BUNDLE_MALFORMED')
    await assertGoesOn()
  })

  test('a bundle signed by a stranger is refused, and the next rotation goes through', async () => {
    await assertRefused(await signBundle(await next(), [await generateSigner()]), 'ERR_BUNDLE_SIGNATURE')
    await assertGoesOn()
  })

  test('a bundle of another domain is refused, and the next rotation goes through', async () => {
    await assertRefused(await signBundle(await next({ domain: 'elsewhere' }), [signer]), 'ERR_BUNDLE_DOMAIN')
    await assertGoesOn()
  })

  test('the bundle before the newest one, published again, is refused as a replay, and the next rotation goes through', async () => {
    const [old] = (await domain.history()).slice(-2)
    assert.ok(old)
    await assertRefused(old.envelope, 'ERR_BUNDLE_REPLAYED')
    await assertGoesOn()
  })

  test('the first bundles, published again after a restart of the agent, are refused as a replay, and the next rotation goes through', async () => {
    await domain.stopAgent('orders')
    await domain.startAgent('orders')
    const [first, second] = await domain.history()
    assert.ok(first && second)
    await assertRefused(second.envelope, 'ERR_BUNDLE_REPLAYED')
    await assertRefused(first.envelope, 'ERR_BUNDLE_REPLAYED')
    await assertGoesOn()
  })

  test('more than 256 KiB: the server does not store it, and an agent would refuse it', async () => {
    const tooMuch = Buffer.alloc(MAX_BUNDLE_BYTES + 1, 'a')
    await assert.rejects(publish(tooMuch), (error) => error instanceof JetStreamApiError)
    await domain.stopAgent('orders')
    {
      await using directory = await openDirectory(domain.identityDir('orders'))
      const acceptance = await Acceptance.open(directory, systemClock)
      await assert.rejects(acceptance.accept(tooMuch), { code: 'ERR_BUNDLE_TOO_LARGE' })
    }
    await domain.startAgent('orders')
    await assertGoesOn()
  })

  test('an expired bundle of the true signer is refused, and a good one of the same version is taken after it', async () => {
    // The true signer wrote a version that the issuer does not know of: it must not go on from there by itself.
    await domain.stopIssuer()
    const past = formatInstant(Date.now() - 2 * 3_600_000)
    const expired = await next({ issuedAt: past, expiresAt: past })
    const good = await next()
    const known = refusals('orders').length
    const version = domain.agents.get('orders')?.status().version ?? 0
    const before = await onDisk('orders')
    const nc = await domain.connectAs('issuer')
    try {
      await jetstream(nc).publish(domain.names.bundleSubject, await signBundle(expired, [signer]))
      await eventually(() => refusals('orders').length > known, { timeout: PATIENCE })
      assert.equal(refusals('orders').at(-1), 'ERR_BUNDLE_EXPIRED')
      assert.deepEqual(await onDisk('orders'), before)
      await jetstream(nc).publish(domain.names.bundleSubject, await signBundle(good, [signer]))
      await eventually(() => domain.agents.get('orders')?.status().version === version + 1, {
        timeout: PATIENCE,
      })
    } finally {
      await nc.close()
    }
  })
})
