/** One of three machines loses its network in the middle of a rotation: no packet, and no word that there is none. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { dieWithUs } from '../../src/local/watchdog.ts'
import type { Outcome } from '../support/cut-off-child.ts'
import { privateSpace } from '../support/private-space.ts'
import { without } from '../support/without.ts'

const CHILD = fileURLToPath(new URL('../support/cut-off-child.ts', import.meta.url))
const MACHINE =
  'mount -t tmpfs run /run && ip netns add one && ip link add hub type bridge && ip link add to-one type veth peer name eth0 netns one && ip netns exec one true'

test('one of three servers is cut off in a rotation: the others go on, it is waited for by name, and follows when it is back', {
  timeout: 240_000,
}, async (t) => {
  const space = await privateSpace(['--net', '--mount'], MACHINE)
  if (space === null) return without(t, 'no right to make network namespaces here')
  const running = promisify(execFile)('unshare', [...space, process.execPath, CHILD], {
    timeout: 200_000,
    killSignal: 'SIGKILL',
  })
  dieWithUs(running.child)
  const { stdout } = await running
  t.diagnostic(stdout.trim())
  const { away, moved, wrong, chain, refused, orders }: Outcome = JSON.parse(stdout)
  assert.deepEqual([away.phase, away.moved, away.named], ['distributing', 0, ['nats-3']])
  assert.deepEqual(away.followed.toSorted(), ['issuer', 'nats-1', 'nats-2', 'orders'])
  assert.ok(away.taken > 0 && away.read > 0)
  assert.equal(moved, 1)
  assert.deepEqual([wrong, chain, refused], [[], [], []])
  const { taken } = orders
  assert.deepEqual(orders, { taken, read: taken, twice: 0 })
})
