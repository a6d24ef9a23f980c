/**
 * A process that is not ours, beside its agent: told by a signal, by a command or over HTTP, proven by a handshake
 * with its listener. In each story one rotation is ordered while the service misbehaves, in one way after the other:
 * 1. each time the old generation is back, the service works on with the old leaf, and the reason is reported with its
 * code; 2. once it behaves, the same rotation goes on, and the evidence is what was seen.
 */
import assert from 'node:assert/strict'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { editJson } from '../../demo/domain.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { assertProven, probeListener } from '../../src/probe/probe.ts'
import { eventually } from '../support/eventually.ts'
import { nextRolledBack, rolledBack } from '../support/rolled-back.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { type Behaviour, Sidecar } from '../support/sidecar.ts'

interface Mischief {
  readonly behaviour: Behaviour
  readonly code: string
  readonly words: RegExp
}

/** A domain with a service that reads the files of its agent. */
class Story implements AsyncDisposable {
  readonly domain: RunningDomain
  readonly service: Sidecar

  private constructor(domain: RunningDomain, service: Sidecar) {
    this.domain = domain
    this.service = service
  }

  static async begin(): Promise<Story> {
    const domain = await RunningDomain.start({ services: [{ name: 'orders', dns: ['orders.test'] }] })
    return new Story(domain, await Sidecar.start(domain.identityDir('orders')))
  }

  get probe() {
    return { address: this.service.address, serverName: 'orders.test' }
  }

  /** The story from the order to the end; returns the last evidence. */
  async tell(target: object, mischiefs: readonly Mischief[]): Promise<string> {
    const { domain, service } = this
    await editJson(domain.agentConfig('orders'), { targets: [{ timeout: '2s', ...target }] })
    // the rotation is held for a service that refuses it, not taken back
    await domain.startAll(['orders'], { maxFailures: { servers: 0, clients: 1 } })
    const before = await domain.identity('orders')
    let ordered = false
    for (const { behaviour, ...reason } of mischiefs) {
      if (!service.running) await service.restart()
      await service.behave(behaviour)
      const putBack = nextRolledBack(domain, 'orders', reason)
      if (!ordered) await domain.order()
      ordered = true
      await putBack
      const status = await rolledBack(domain, 'orders')
      assert.equal(status.leaf.fingerprint, before.leaf.sha256)
      await eventually(async () => (await domain.identity('orders')).leaf.sha256 === before.leaf.sha256, {
        timeout: PATIENCE,
      })
      if (behaviour !== 'hangs' && service.running) await this.assertServes(before)
    }

    if (!ordered) await domain.order()
    await service.behave('good')
    if (!service.running) await service.restart()
    const { agents } = await domain.settled(undefined, (now) => now.active > 0)
    const after = await domain.identity('orders')
    assert.notEqual(after.leaf.sha256, before.leaf.sha256)
    await this.assertServes(after)
    const [told] = agents.find((agent) => agent.name === 'orders')?.status?.targets ?? []
    assert.deepEqual([told?.ok, told?.fingerprint], [true, after.leaf.sha256])
    return told?.evidence ?? ''
  }

  async assertServes(identity: IdentitySnapshot): Promise<void> {
    const target = { kind: 'tls' as const, address: this.service.address, servername: 'orders.test' }
    const result = await probeListener(target, { material: identity, timeout: PATIENCE })
    assertProven(result, { fingerprint: identity.leaf.sha256 })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.domain.stop()
    await this.service[Symbol.asyncDispose]()
  }
}

describe('a process that is not ours', { concurrency: 2, timeout: 240_000 }, () => {
  test('signal and probe: it ends, ignores the news, hangs; each time put back, then it goes on', async () => {
    await using story = await Story.begin()
    const { pidFile } = story.service
    const evidence = await story.tell({ type: 'signal', pidFile, probe: story.probe }, [
      {
        behaviour: 'dies',
        code: 'ERR_PROOF_FAILED',
        words: /process \d+ of .*service\.pid ended after SIGHUP: .*ECONNREFUSED/,
      },
      {
        behaviour: 'ignores',
        code: 'ERR_PROOF_FAILED',
        words: /tls listener .*: expected the leaf \w+, found/,
      },
      { behaviour: 'hangs', code: 'ERR_PROBE_PROTOCOL', words: /TLS handshake: no answer within/ },
    ])
    assert.match(evidence, /^tls listener [\d.:]+ now serves the leaf, and accepts it$/)
  })

  test('exec, probe and check: the command fails, hangs, changes nothing, the check says no', async () => {
    await using story = await Story.begin()
    const { folder, pidFile } = story.service
    const script = async (name: string, text: string): Promise<string> => {
      const file = join(folder, name)
      await writeFile(file, `#!/bin/sh\n${text}\n`)
      await chmod(file, 0o755)
      return file
    }
    const command = await script(
      'reload',
      `case $(cat ${folder}/behaviour) in
      fails) echo "no room for another certificate" >&2; exit 3;;
      hangs) exec sleep 30;;
      *) kill -HUP $(cat ${pidFile})
    esac`,
    )
    const check = await script(
      'check',
      `! grep -q sick ${folder}/behaviour || { echo "not healthy"; exit 1; }`,
    )
    const evidence = await story.tell(
      { type: 'exec', command: [command], probe: story.probe, check: [check] },
      [
        { behaviour: 'fails', code: 'ERR_NOTIFY_FAILED', words: /reload ended with 3: no room for another/ },
        {
          behaviour: 'hangs',
          code: 'ERR_NOTIFY_FAILED',
          words: /reload did not end within 2s and was killed/,
        },
        { behaviour: 'ignores', code: 'ERR_PROOF_FAILED', words: /expected the leaf \w+, found/ },
        { behaviour: 'sick', code: 'ERR_PROOF_FAILED', words: /check ended with 1: not healthy/ },
      ],
    )
    assert.match(evidence, /^tls listener .* the leaf.*, and accepts it; .*check ended with 0$/)
  })

  test('https and probe: 500, no answer, a redirect, the old leaf, the end of the service', async () => {
    await using story = await Story.begin()
    const url = `https://${story.service.address}/reload`
    const told = { type: 'http', url, serverName: 'orders.test', probe: story.probe }
    const evidence = await story.tell(told, [
      {
        behaviour: 'fails',
        code: 'ERR_NOTIFY_FAILED',
        words: /POST https:.*: expected 200, 202, 204, found 500: "no room for another certificate"/,
      },
      { behaviour: 'hangs', code: 'ERR_NOTIFY_FAILED', words: /no answer within 2s/ },
      {
        behaviour: 'redirects',
        code: 'ERR_NOTIFY_FAILED',
        words: /found 307 \(redirects are not followed\)/,
      },
      { behaviour: 'stale', code: 'ERR_PROOF_FAILED', words: /expected the leaf \w+, found/ },
      { behaviour: 'dies', code: 'ERR_TARGET_UNREACHABLE', words: /POST https:.*ECONNREFUSED/ },
    ])
    assert.match(evidence, /now serves the leaf, and accepts it/)
  })

  test('http on this machine, with headers of a file: told and proven', async () => {
    await using story = await Story.begin()
    const headersFile = join(story.service.folder, 'headers')
    await writeFile(headersFile, 'Authorization: Bearer a-secret-of-ours\n')
    const url = `http://${story.service.plainAddress}/reload`
    const evidence = await story.tell({ type: 'http', url, headersFile, probe: story.probe }, [])
    assert.match(evidence, /now serves the leaf, and accepts it/)
  })
})
