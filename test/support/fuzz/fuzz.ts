/** One input for one target: what is allowed to happen, and how an input is made again from a few numbers. */
import assert from 'node:assert/strict'
import { RotorError } from '../../../src/errors.ts'
import type { Duration } from '../../../src/time.ts'
import { Random } from '../random.ts'
import { mutate } from './mutate.ts'
import type { FuzzTarget } from './targets.ts'

/** An input as the numbers it is made from: changes of changes. Keys differ in each run, the way is the same. */
export type Recipe = readonly number[]

/** Of the processor, whatever else runs on this machine. One input takes a few milliseconds. */
const LONGEST: Duration = 2_000
/** Characters. A message goes into logs and records: no stranger may make it long. */
const LONGEST_MESSAGE = 8_300

/** What was kept: lines of `target: number,number`, in the order of the targets. */
export function readCorpus(text: string): Map<string, Recipe[]> {
  const corpus = new Map<string, Recipe[]>()
  for (const line of text.split('\n')) {
    const at = line.lastIndexOf(': ')
    if (at < 0) continue
    const name = line.slice(0, at)
    const recipe = line
      .slice(at + 2)
      .split(',')
      .map(Number)
    corpus.set(name, [...(corpus.get(name) ?? []), recipe])
  }
  return corpus
}

export const writeCorpus = (corpus: ReadonlyMap<string, readonly Recipe[]>): string =>
  [...corpus].flatMap(([name, recipes]) => recipes.map((recipe) => `${name}: ${recipe.join(',')}\n`)).join('')

export function cook(target: FuzzTarget, recipe: Recipe): Buffer {
  const [first = 0] = recipe
  let bytes = target.samples[first % target.samples.length] ?? Buffer.alloc(0)
  for (const number of recipe) bytes = mutate(target.form, bytes, target.samples, new Random(number))
  return bytes
}

/** Gives the input to the target. Throws when anything but a proper refusal or an answer comes of it. */
export async function feed(target: FuzzTarget, input: Buffer): Promise<'taken' | RotorError['code']> {
  const began = process.cpuUsage()
  let answer: 'taken' | RotorError['code'] = 'taken'
  try {
    await target.run(input)
  } catch (error) {
    assert.ok(
      RotorError.is(error),
      `expected a RotorError, found ${error instanceof Error ? error.stack : error}`,
    )
    assert.match(error.code, target.codes, error.message.slice(0, 500))
    assert.ok(
      error.message.length <= LONGEST_MESSAGE,
      `a message of ${error.message.length} characters: ${error.message.slice(0, 200)}`,
    )
    for (const secret of target.secrets ?? []) {
      assert.ok(!error.message.includes(secret), 'the message repeats a private key')
    }
    answer = error.code
  }
  const { user, system } = process.cpuUsage(began)
  const took = (user + system) / 1_000
  assert.ok(took < LONGEST, `it took ${Math.round(took)} ms for ${input.length} bytes`)
  return answer
}

/** The same, saying how to make the input again. */
export async function feedRecipe(target: FuzzTarget, recipe: Recipe): Promise<void> {
  const input = cook(target, recipe)
  try {
    await feed(target, input)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new Error(
      `${target.name}: ${reason}\nagain with: node test/fuzz/run.ts --target ${JSON.stringify(target.name)} --recipe ${recipe.join(',')}\n` +
        `input, ${input.length} bytes: ${JSON.stringify(input.toString('latin1').slice(0, 300))}`,
      { cause },
    )
  }
}
