/**
 * A running domain moves to a new root. First story: under traffic, with one service that has the roots in its trust
 * file, both roots signed across; 1. the order of the command line, 2. both roots are trusted and the new one signs,
 * OpenSSL agrees on what the servers serve, 3. the old authorities retire and the old root leaves with its key,
 * 4. nothing was lost. Second story: the issuer is killed at every boundary of the change, and it goes through.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import type { Child } from '../../demo/child.ts'
import { editJson } from '../../demo/domain.ts'
import { sleep } from '../../src/time.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { chainProblems } from '../support/bundle-history.ts'
import { rotor } from '../support/cli.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { Traffic } from '../support/traffic.ts'

const MINUTES = 180_000

/** A root alone in its file, as a client outside of the domain has it. */
async function verifies(dir: string, root: string, chain: string): Promise<boolean> {
  const [leaf = '', ...rest] = parseCertificates(chain, 'chain').map(({ pem }) => pem)
  const at = (name: string) => join(dir, `${name}.pem`)
  const files = { root, leaf, rest: rest.join('') }
  for (const [name, text] of Object.entries(files)) await writeFile(at(name), text)
  const args = [
    'verify',
    '-CAfile',
    at('root'),
    '-untrusted',
    at('rest'),
    '-purpose',
    'sslserver',
    at('leaf'),
  ]
  return promisify(execFile)('openssl', args).then(
    () => true,
    () => false,
  )
}

test('a domain moves to a new root under traffic: nothing is lost, and the old root leaves with its key', {
  timeout: MINUTES,
}, async (t) => {
  const services = ['orders', 'billing'].map((name) => ({
    name,
    publish: ['traffic.>'],
    subscribe: ['traffic.>'],
  }))
  await using domain = await RunningDomain.start({ services })
  // one server reads and one service has only roots in its file
  await editJson(domain.agentConfig('billing'), { anchors: 'root' })
  await domain.startAll(['orders', 'billing'])
  // an `anchors` setting counts from the next bundle on
  await domain.rotate()
  const config = domain.local.founded.issuerConfig
  const [old] = (await domain.overview()).roots
  const oldRoot = await readFile(join(domain.local.dir, 'issuer', 'keys', 'root.crt'), 'utf8')
  assert.equal((await domain.identity('billing')).ca, oldRoot)

  const service = await domain.connectService('orders')
  t.after(() => service.close())
  const peer = await domain.connectService('billing')
  t.after(() => peer.close())
  const traffic = await Traffic.start(service, peer)

  // 1. the command waits until the new root signs, proven on every node
  const ordered = await rotor('root', 'rotate', '--config', config, '--cross-sign', '--json')
  assert.equal(ordered.code, 0, ordered.stderr)
  const answer = JSON.parse(ordered.stdout)
  assert.equal(answer.type, 'root-rotated')
  const again = await rotor('root', 'rotate', '--config', config, '--json')
  assert.equal(JSON.parse(again.stdout).code, 'ERR_ORDER_REFUSED', 'not while two roots are trusted')

  // 2. overlap
  const overlap = await domain.settled()
  assert.equal(overlap.roots.length, 2)
  const [fresh] = overlap.roots
  assert.ok(fresh && old)
  assert.equal(fresh.sha256, answer.root)
  assert.notEqual(fresh.sha256, old.sha256)
  assert.deepEqual(fresh.epochs, [overlap.active])
  const { stdout } = await rotor('root', 'status', '--config', config)
  assert.match(stdout, new RegExp(`${fresh.sha256.slice(0, 16)}.*signs`))
  assert.match(stdout, new RegExp(`${old.sha256.slice(0, 16)}.*leaves with its last authority`))

  const billing = await domain.identity('billing')
  const trusted = parseCertificates(billing.ca, 'ca.pem')
  assert.deepEqual(
    trusted.map(({ sha256 }) => sha256),
    [fresh.sha256, old.sha256],
  )
  const newRoot = trusted[0]?.pem ?? ''
  const chain = (await domain.identity(domain.serverNames[0] ?? '')).certificate
  for (const root of [oldRoot, newRoot]) assert.ok(await verifies(domain.local.dir, root, chain))

  // 3. the authorities of the old root retire as soon as nobody needs them, and it with them
  await domain.stopIssuer()
  await domain.startIssuer({ retireAfter: 0 })
  const done = await domain.settled(undefined, ({ roots }) => roots.length === 1)
  assert.deepEqual(
    done.roots.map(({ sha256 }) => sha256),
    [fresh.sha256],
  )
  const keys = join(domain.local.dir, 'issuer', 'keys')
  assert.ok(
    !(await readdir(keys)).some((name) => name.startsWith('root.')),
    'the key of the old root is gone',
  )
  assert.equal((await domain.identity('billing')).ca, newRoot)
  // and the domain rotates on, without the certificates that led to the old root
  const next = await domain.rotate()
  assert.equal(parseCertificates((await domain.identity('orders')).certificate, 'chain').length, 2)
  assert.ok(next.active > overlap.active)

  // 4. all of it arrived
  const { failed, ...flows } = await traffic.finish()
  assert.deepEqual(failed, {})
  for (const [name, { lost, duplicated }] of Object.entries(flows)) {
    assert.deepEqual([lost, duplicated], [0, 0], name)
  }
  assert.deepEqual(chainProblems(await domain.history()), [])
})

const POINTS = [
  'effect before create-root',
  'effect after create-root',
  'commit before introduce',
  'commit after introduce',
  'effect before delete-root',
  'effect after delete-root',
]
const NEVER = new AbortController().signal

test('the issuer is killed at every boundary of a change, and the domain has one root in the end', {
  timeout: MINUTES,
}, async (t) => {
  await using domain = await RunningDomain.start({ policy: { retireAfter: '0s' } })
  for (const name of domain.serverNames) await domain.startAgent(name)
  const { issuerConfig } = domain.local.founded
  const start = async (point: string): Promise<Child> => {
    const args = ['issuer', issuerConfig, domain.agentConfig('issuer'), point]
    const child = await domain.local.start('victim', 'test/support/crashing-node', args)
    await child.started('started', NEVER, PATIENCE)
    return child
  }
  const nodes = ['issuer', ...domain.serverNames]
  const over = new AbortController()
  t.after(() => over.abort())
  let victim = await start(POINTS[0] ?? '')
  const before = await domain.settled(nodes)
  await domain.order('a new root', 'root-rotate')
  for (const next of [...POINTS.slice(1), 'never']) {
    const died = await Promise.race([victim.exited, sleep(PATIENCE, over.signal).catch(() => {})])
    assert.equal(died, 'SIGKILL', `before "${next}"`)
    victim = await start(next)
  }
  const end = await domain.settled(nodes, ({ roots, active }) => roots.length === 1 && active > before.active)
  assert.notEqual(end.roots[0]?.sha256, before.roots[0]?.sha256)
  assert.deepEqual(end.roots[0]?.epochs, [end.active])
  assert.deepEqual(await readdir(join(domain.local.dir, 'issuer', 'keys', 'roots')), ['2'])
  assert.deepEqual(chainProblems(await domain.history()), [])
})
