/** A list that changes while it is read: connections come at its end, and go anywhere. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readAll } from '../../../issuer/census/pages.ts'

const entries = (count: number) => Array.from({ length: count }, (_, cid) => ({ cid }))

test('whoever is there all the time is found, whoever else comes and goes between the pages', async () => {
  const change = fc.record({ closed: fc.array(fc.nat(60), { maxLength: 12 }), opened: fc.nat(6) })
  await fc.assert(
    fc.asyncProperty(
      fc.nat(60),
      fc.integer({ min: 2, max: 9 }),
      fc.array(change, { maxLength: 12 }),
      async (count, page, changes) => {
        let list = entries(count)
        let next = count
        const before = new Set(list.map(({ cid }) => cid))
        const stayed = new Set(before)
        const { found, complete } = await readAll(
          async (offset, limit) => {
            const answer = list.slice(offset, offset + limit)
            const { closed, opened } = changes.shift() ?? { closed: [], opened: 0 }
            list = list.filter(({ cid }) => !closed.includes(cid))
            for (const cid of closed) stayed.delete(cid)
            for (let i = 0; i < opened; i++) list.push({ cid: next++ })
            return answer
          },
          { page, max: 1000 },
        )
        const cids = new Set(found.map(({ cid }) => cid))
        assert.equal(complete, true)
        assert.equal(cids.size, found.length, 'nobody twice')
        for (const cid of stayed) assert.ok(cids.has(cid), `${cid} was there all the time`)
      },
    ),
  )
})

test('a page of a thousand asks once more only when the page is full', async () => {
  const asked: [number, number][] = []
  const list = entries(2500)
  const { found } = await readAll(
    async (offset, limit) => {
      asked.push([offset, limit])
      return list.slice(offset, offset + limit)
    },
    { page: 1000, max: 100_000 },
  )
  assert.equal(found.length, 2500)
  assert.deepEqual(asked, [
    [0, 1000],
    [999, 1000],
    [1998, 1000],
  ])
})

test('a list without an end is given up, and said not to be complete', async () => {
  let cid = 0
  const endless = await readAll(async (_, limit) => Array.from({ length: limit }, () => ({ cid: cid++ })), {
    page: 10,
    max: 50,
  })
  assert.equal(endless.complete, false)
  assert.ok(endless.found.length <= 50)
  const moving = await readAll(async (offset) => (offset === 0 ? entries(10) : []), { page: 10, max: 50 })
  assert.equal(moving.complete, false)
})
