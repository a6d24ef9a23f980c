import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { HeldIdentity, type IdentitySnapshot } from '../../../src/identity/identity.ts'
import { parseMaterial } from '../../../src/identity/material.ts'
import { type Logger, silentLogger } from '../../../src/log.ts'
import { makeMaterials } from './kit.ts'

describe('a held identity', () => {
  let first: IdentitySnapshot
  let second: IdentitySnapshot
  let third: IdentitySnapshot

  before(async () => {
    const snapshots = (await makeMaterials(3)).map((material, i) => ({
      ...material,
      leaf: parseMaterial(material).leaf,
      generation: `${i + 1}-1`,
      version: i + 1,
    }))
    const [a, b, c] = snapshots
    assert.ok(a && b && c)
    ;[first, second, third] = [a, b, c]
  })

  /** A log that keeps its errors. */
  function keepingLog(): { log: Logger; errors: object[] } {
    const errors: object[] = []
    return { errors, log: { ...silentLogger, error: (fields) => errors.push(fields) } }
  }

  test('every listener hears of every change, with the new set already current', () => {
    const identity = new HeldIdentity(first)
    const heard: string[] = []
    identity.onChange((next) => heard.push(`a ${next.generation} ${identity.current().generation}`))
    identity.onChange((next) => heard.push(`b ${next.generation}`))
    identity.set(second)
    identity.set(third)
    assert.deepEqual(heard, ['a 2-1 2-1', 'b 2-1', 'a 3-1 3-1', 'b 3-1'])
  })

  test('the same material under another name is no change, but becomes current', () => {
    const identity = new HeldIdentity(first)
    identity.onChange(() => assert.fail('nothing changed'))
    identity.set({ ...first, generation: '1-2' })
    assert.equal(identity.current().generation, '1-2')
  })

  test('a listener that throws or rejects is logged and does not stop the others', async () => {
    const { log, errors } = keepingLog()
    const identity = new HeldIdentity(first, log)
    let heard = 0
    identity.onChange(() => {
      throw new Error('broken')
    })
    identity.onChange((async () => {
      throw new Error('broken later')
    }) as () => void)
    identity.onChange(() => {
      heard += 1
    })
    identity.set(second)
    await new Promise(setImmediate)
    assert.equal(heard, 1)
    assert.equal(errors.length, 2)
  })

  test('a stopped listener hears nothing, and a function given twice is stopped one by one', () => {
    const identity = new HeldIdentity(first)
    let heard = 0
    const listener = () => {
      heard += 1
    }
    const stop = identity.onChange(listener)
    identity.onChange(listener)
    stop()
    stop()
    identity.set(second)
    assert.equal(heard, 1)
  })

  test('a listener stopped by another one during the news does not hear it', () => {
    const identity = new HeldIdentity(first)
    const stops: (() => void)[] = []
    identity.onChange(() => {
      for (const stop of stops) stop()
    })
    stops.push(identity.onChange(() => assert.fail('it was stopped')))
    identity.set(second)
  })

  test('when a listener sets a newer identity, nobody hears of the older one after it', () => {
    const identity = new HeldIdentity(first)
    const heard: string[] = []
    identity.onChange((next) => {
      if (next === second) identity.set(third)
    })
    identity.onChange((next) => heard.push(next.generation))
    identity.set(second)
    assert.deepEqual(heard, ['3-1'])
  })
})
