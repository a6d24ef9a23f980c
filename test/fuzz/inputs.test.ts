/** Everything that reads input, fed with damaged input: refused with an error of ours, soon, and in few words. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { RotorError } from '../../src/errors.ts'
import { feed, feedRecipe, readCorpus } from '../support/fuzz/fuzz.ts'
import { type FuzzTarget, type FuzzTargets, makeTargets } from '../support/fuzz/targets.ts'

/** Inputs for each target besides the corpus; the long run is `node test/fuzz/run.ts`. */
const INPUTS = 120
const FEW = 10

const corpus = readCorpus(await readFile(new URL('corpus.txt', import.meta.url), 'utf8'))

describe('damaged input', () => {
  let made: FuzzTargets
  before(async () => {
    made = await makeTargets()
  })
  after(() => made[Symbol.asyncDispose]())

  it('begins with a valid sample of every kind', async () => {
    for (const target of made.targets) {
      const answers: string[] = []
      for (const sample of target.samples) answers.push(await feed(target, sample))
      assert.equal(answers[0], 'taken', target.name)
    }
  })

  it('that once reached new code is refused with an error of ours, or taken', async () => {
    for (const target of made.targets) {
      for (const recipe of corpus.get(target.name) ?? []) await feedRecipe(target, recipe)
    }
  })

  it('of any kind is refused with an error of ours, or taken', async () => {
    for (const target of made.targets) {
      const inputs = target.slow === true ? FEW : INPUTS
      for (let number = 1; number <= inputs; number++) await feedRecipe(target, [number])
    }
  })

  it('leaves no corpus without a target', () => {
    const names = made.targets.map(({ name }) => name)
    for (const name of corpus.keys()) assert.ok(names.includes(name), name)
  })

  it('is noticed when it brings out any other error, another code, a long message or a secret', async () => {
    const target = (run: () => unknown): FuzzTarget => ({
      name: 'planted',
      form: 'bytes',
      samples: [],
      codes: /^ERR_CONFIG_INVALID$/,
      secrets: ['abc123'],
      run,
    })
    const failing: (() => unknown)[] = [
      () => {
        throw new TypeError('x is undefined')
      },
      () => {
        throw new RotorError('ERR_INTERNAL', 'x')
      },
      () => {
        throw new RotorError('ERR_CONFIG_INVALID', 'the key is abc123')
      },
      () => {
        throw Object.assign(new RotorError('ERR_CONFIG_INVALID', ''), { message: 'x'.repeat(10_000) })
      },
    ]
    for (const run of failing) await assert.rejects(feed(target(run), Buffer.alloc(0)))
    const proper = target(() => {
      throw new RotorError('ERR_CONFIG_INVALID', 'x'.repeat(1_000_000))
    })
    assert.equal(await feed(proper, Buffer.alloc(0)), 'ERR_CONFIG_INVALID')
  })
})
