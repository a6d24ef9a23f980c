import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Progress, percentile } from '../../../demo/progress.ts'

const at = (ms: number): string => new Date(ms).toISOString()
const nodes = [
  { name: 'issuer', role: 'issuer' as const },
  { name: 'a', role: 'library' as const },
  { name: 'b', role: 'sidecar' as const },
]
const neighbours = new Map([
  ['a', 'b'],
  ['b', 'a'],
])
const traffic = (published: number, received: number, duplicated = 0) => ({
  published,
  received,
  duplicated,
  reordered: 0,
})

test('a rotation is measured from the publication of the new signer to the last node proven on it', () => {
  const progress = new Progress(nodes, neighbours)
  progress.take({ type: 'commit', when: 'after', move: 'activate', version: 3, reason: 'x' })
  progress.take({
    type: 'effect',
    when: 'after',
    effect: { kind: 'publish-bundle', version: 3 },
    at: at(1000),
  })
  for (const [i, node] of ['a', 'issuer', 'b'].entries()) {
    assert.deepEqual(progress.rotationMs, [])
    progress.take({ type: 'applied', node, version: 3, epoch: 1, at: at(1100 + i * 100) })
  }
  assert.deepEqual(progress.rotationMs, [300])
  progress.take({ type: 'commit', when: 'after', move: 'converge', version: 3, reason: 'x' })
  assert.equal(progress.rotations, 1)
})

test('a bundle that only changes trust is no rotation', () => {
  const progress = new Progress(nodes, neighbours)
  progress.take({ type: 'commit', when: 'after', move: 'prepare', version: 2, reason: 'x' })
  progress.take({
    type: 'effect',
    when: 'after',
    effect: { kind: 'publish-bundle', version: 2 },
    at: at(1000),
  })
  for (const { name } of nodes)
    progress.take({ type: 'applied', node: name, version: 2, epoch: 0, at: at(1100) })
  assert.deepEqual(progress.rotationMs, [])
})

test('what a service received is compared with what its neighbour published', () => {
  const progress = new Progress(nodes, neighbours)
  progress.take({
    type: 'counts',
    node: 'a',
    core: traffic(10, 18),
    jetstream: traffic(5, 7, 1),
    requests: { sent: 3, failed: 1 },
  })
  progress.take({
    type: 'counts',
    node: 'b',
    core: traffic(20, 10),
    jetstream: traffic(7, 5),
    requests: { sent: 2, failed: 0 },
  })
  assert.deepEqual(progress.flows, {
    core: { published: 30, received: 28, lost: 2, duplicated: 0, reordered: 0 },
    jetstream: { published: 12, received: 12, lost: 0, duplicated: 1 },
    requests: { sent: 5, failed: 1 },
  })
})

test('percentiles are nearest rank', () => {
  assert.equal(percentile([], 50), null)
  assert.equal(percentile([3, 1, 2], 50), 2)
  assert.equal(percentile([3, 1, 2], 99), 3)
})
