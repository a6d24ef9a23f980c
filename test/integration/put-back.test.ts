/**
 * A target that does not take the new files gets the old ones back. Once with real nats-servers, newest and oldest:
 * 1. Somebody leaves a broken edit in the configuration of one server. 2. A rotation is ordered; that server refuses
 * the reload. 3. Its agent puts the old generation back and reports the server's words; the issuer withdraws the version,
 * and no other node used it. 4. The edit is mended, and the next rotation goes through everywhere. Then with processes
 * that were not made for the signal, or end by it, and with a command whose check says no; there the budget has room
 * for them, and the rotation holds until they are mended.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { editJson } from '../../demo/domain.ts'
import { turnTime } from '../../issuer/turns.ts'
import type { TargetConfig } from '../../src/domain/config.ts'
import { findNatsServer, type NatsServerRelease } from '../../src/local/nats-server.ts'
import { eventually } from '../support/eventually.ts'
import { nextRolledBack, rolledBack } from '../support/rolled-back.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'

/** A rotation holds for services that refuse it. */
const PATIENT = { maxFailures: { servers: 0, clients: 1 } }

/** Of a domain with long epochs. */
const TURN = turnTime(3_600_000)

const RELEASES: readonly { release: NatsServerRelease; dryRun: boolean; words: RegExp; way: string }[] = [
  { release: 'nats-server', dryRun: false, words: /broken_edit/, way: 'the RELOAD request' },
  { release: 'nats-server-oldest', dryRun: false, words: /its log says why/, way: 'SIGHUP' },
  { release: 'nats-server-oldest', dryRun: true, words: /broken_edit/, way: 'SIGHUP after a dry run' },
]

describe('a nats-server that refuses the reload', { concurrency: 3, timeout: 240_000 }, () => {
  for (const { release, dryRun, words, way } of RELEASES) {
    test(`${release}, told by ${way}: old generation back, taken back, no other node uses it, mended it goes on`, async () => {
      const binary = findNatsServer(release)
      await using domain = await RunningDomain.start({ servers: 3, binary })
      for (const name of domain.serverNames) {
        const file = domain.agentConfig(name)
        const { targets } = JSON.parse(await readFile(file, 'utf8'))
        const more = { timeout: '4s', ...(dryRun ? { binary: binary.path } : {}) }
        await editJson(file, { targets: targets.map((target: TargetConfig) => ({ ...target, ...more })) })
      }
      let bad = Number.POSITIVE_INFINITY
      const takers: { readonly node: string; readonly at: number }[] = []
      domain.onEvent = (event) => {
        const at = Date.now()
        if (event.type === 'commit' && event.version === 2) bad = Math.min(bad, at)
        if (event.type === 'step' && event.step === 'publish' && event.version === 2)
          takers.push({ node: event.node, at })
      }
      await domain.startIssuer()

      // the canary is the server whose agent comes first
      const edited = join(domain.local.dir, 'servers', 'nats-1', 'nats-server.conf')
      const good = await readFile(edited, 'utf8')
      await appendFile(edited, '\nbroken_edit: true\n')
      await domain.startAgent('nats-1')
      const before = await domain.identity('nats-1')
      const putBack = nextRolledBack(domain, 'nats-1', { code: 'ERR_RELOAD_REFUSED', words })
      await domain.order()
      await putBack
      // the issuer takes the version back by itself, and the agents that come now get the next one
      for (const name of ['nats-2', 'nats-3']) await domain.startAgent(name)
      const back = await domain.settled(undefined, ({ version }) => version === 3)
      assert.equal(back.active, 0)
      assert.equal((await domain.identity('nats-1')).leaf.sha256, before.leaf.sha256)
      const [, , withdrawn] = await domain.history()
      assert.match(
        withdrawn?.payload.reason ?? '',
        /1 of 3 servers refused it \(nats-1: ERR_RELOAD_REFUSED\)/,
      )
      // who waits for the first server waits for one turn at most
      const meanwhile = takers.filter(({ at }) => at - bad < TURN).map(({ node }) => node)
      assert.deepEqual([...new Set(meanwhile)], ['nats-1'])

      await writeFile(edited, good)
      await domain.order()
      const done = await domain.settled(undefined, (now) => now.active > 0)
      for (const { server, kind, result } of await domain.probe(await domain.identity('nats-1'), [
        'client',
        'cluster',
      ])) {
        const leaf = done.agents.find((agent) => agent.name === server)?.status?.leaf
        assert.equal(result.served.sha256, leaf?.fingerprint, `${server} ${kind}`)
      }
    })
  }
})

describe('a process that does not take the new files', { concurrency: 2, timeout: 120_000 }, () => {
  test('signal: one that does not handle it is not signalled, one that ends by it is put back, a good one goes on', async () => {
    await using domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
    const pidFile = join(domain.local.dir, 'agents', 'orders', 'service.pid')
    await using cleanup = new AsyncDisposableStack()
    const start = async (script: string): Promise<ChildProcess> => {
      const child = spawn('/bin/sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
      cleanup.defer(() => void child.kill('SIGKILL'))
      await once(child.stdout, 'data')
      await writeFile(pidFile, String(child.pid))
      return child
    }
    const good = 'trap : HUP; echo ready; while :; do sleep 0.1; done'
    await start(good)
    await editJson(domain.agentConfig('orders'), { targets: [{ type: 'signal', pidFile }] })
    await domain.startAll(['orders'], PATIENT)
    const before = await domain.identity('orders')

    const deaf = await start('echo ready; while :; do sleep 0.1; done')
    await domain.order()
    const status = await rolledBack(domain, 'orders')
    assert.equal(status.lastError?.code, 'ERR_TARGET_UNREACHABLE')
    assert.match(status.lastError.message, /does not handle SIGHUP and would end by it, so it was not sent/)
    assert.equal((await domain.identity('orders')).generation, before.generation)
    assert.equal((await domain.overview()).active, 0)

    const words = /ended after SIGHUP/
    const putBack = nextRolledBack(domain, 'orders', { code: 'ERR_PROOF_FAILED', words })
    let done = false
    void putBack.finally(() => {
      done = true
    })
    // again and again, as a supervisor would: the first may go while the try before is put back
    while (!done) {
      const weak = await start('trap "exit 1" HUP; echo ready; while :; do sleep 0.1; done')
      await eventually(() => done || weak.exitCode === 1, { timeout: PATIENCE })
    }
    await putBack
    assert.equal((await domain.overview()).active, 0)
    // nothing was killed
    assert.deepEqual([deaf.exitCode, deaf.signalCode], [null, null])

    await start(good)
    await domain.settled(undefined, (now) => now.active > 0)
  })

  test('exec: its check says no, the old generation is back; when it says yes the rotation goes on', async () => {
    await using domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
    const broken = join(domain.local.dir, 'broken')
    const check = [
      '/bin/sh',
      '-c',
      `test ! -e ${broken} || { echo "the service did not come back"; exit 3; }`,
    ]
    await editJson(domain.agentConfig('orders'), {
      targets: [{ type: 'exec', command: ['/bin/true'], check }],
    })
    await writeFile(broken, '')
    await domain.startAll(['orders'], PATIENT)
    const before = await domain.identity('orders')
    await domain.order()

    const status = await rolledBack(domain, 'orders')
    assert.match(status.lastError?.message ?? '', /the service did not come back/)
    assert.equal((await domain.identity('orders')).generation, before.generation)

    await rm(broken)
    await domain.settled(undefined, (now) => now.active > 0)
  })

  test('two of them: one that stays broken does not keep the put-back from the other', async () => {
    await using domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
    const at = (name: string) => join(domain.local.dir, name)
    const files = domain.identityDir('orders')
    // keeps a copy of the trust it was told of
    const told = (name: string) => ['/bin/cp', join(files, 'ca.pem'), at(name)]
    const broken = ['/bin/sh', '-c', `test -e ${at('mended')} || { echo "still broken"; exit 3; }`]
    await editJson(domain.agentConfig('orders'), {
      targets: [
        { type: 'exec', command: told('first'), check: broken },
        { type: 'exec', command: told('second') },
      ],
    })
    await domain.startAll(['orders'], PATIENT)
    const before = await domain.identity('orders')
    await domain.order()

    const status = await rolledBack(domain, 'orders')
    assert.deepEqual(
      status.targets.map(({ ok }) => ok),
      [false, true],
    )
    assert.match(status.targets[0]?.evidence ?? '', /ERR_PROOF_FAILED: .*still broken/)
    assert.equal(await readFile(at('second'), 'utf8'), before.ca)

    await writeFile(at('mended'), '')
    await domain.settled(undefined, (now) => now.active > 0)
  })
})
