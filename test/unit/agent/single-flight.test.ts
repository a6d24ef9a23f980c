import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { SingleFlight } from '../../../agent/single-flight.ts'

interface Item {
  readonly version: number
  readonly id: number
}

const newer = (waiting: Item, offered: Item): Item => (offered.version >= waiting.version ? offered : waiting)

/** A flight whose runs end when the test says so. */
function held() {
  const started: Item[] = []
  const superseded: Item[] = []
  const gates: PromiseWithResolvers<void>[] = []
  const flight = new SingleFlight<Item>({
    run: async (item) => {
      started.push(item)
      const gate = Promise.withResolvers<void>()
      gates.push(gate)
      await gate.promise
    },
    better: newer,
    superseded: (item) => void superseded.push(item),
  })
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
  const finish = async () => {
    gates.at(-1)?.resolve()
    await settle()
  }
  return { flight, started, superseded, settle, finish }
}

const item = (version: number, id = version): Item => ({ version, id })

test('while one runs only the newest waits', async () => {
  const { flight, started, superseded, settle, finish } = held()
  flight.offer(item(1))
  await settle()
  for (const version of [2, 4, 3]) flight.offer(item(version))
  assert.deepEqual(
    superseded.map((i) => i.version),
    [2, 3],
  )
  await finish()
  assert.deepEqual(
    started.map((i) => i.version),
    [1, 4],
  )
  await finish()
  await flight.idle()
})

test('what is offered during a run is never lost, whenever it comes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: 20 }), fc.boolean()), { maxLength: 40 }),
      async (steps) => {
        const { flight, started, superseded, settle, finish } = held()
        let id = 0
        for (const [version, end] of steps) {
          flight.offer(item(version, id++))
          await settle()
          if (end) await finish()
        }
        for (let i = 0; i <= steps.length; i++) await finish()
        await flight.idle()
        assert.deepEqual(
          [...started, ...superseded].map((i) => i.id).sort((a, b) => a - b),
          steps.map((_, i) => i),
        )
      },
    ),
    { numRuns: 50 },
  )
})
