/** Fuzzing led by coverage: keeps the inputs that reach new code of `src/`. `node test/fuzz/run.ts --seconds 60`. */
import { readFile, writeFile } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'
import { parseArgs } from 'node:util'
import { feed, feedRecipe, type Recipe, readCorpus, writeCorpus } from '../support/fuzz/fuzz.ts'
import { type FuzzTarget, makeTargets } from '../support/fuzz/targets.ts'
import { Random } from '../support/random.ts'

const HELP = `Feeds damaged input to everything that reads input, and looks which code it reaches.

  node test/fuzz/run.ts --seconds 60             all targets in turn
  node test/fuzz/run.ts --seconds 60 --keep      what reaches new code is kept in test/fuzz/corpus.txt
  node test/fuzz/run.ts --target "duration" --recipe 17,4

  --seconds S    how long (default 30)
  --target NAME  this target only
  --seed N       where chance begins (default: another one each time)
  --keep         writes the corpus
  --recipe A,B   one input again, as a failure names it
`

const CORPUS = new URL('corpus.txt', import.meta.url)
/** Inputs between two looks at the coverage: a look takes some milliseconds. */
const BATCH = 25

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    target: { type: 'string' },
    seed: { type: 'string' },
    recipe: { type: 'string' },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

/** Blocks of `src/` that ran since the look before, as `file:from-to`. */
class Coverage {
  readonly #session = new Session()
  readonly blocks = new Set<string>()
  /** Blocks that stand beside one that ran. */
  readonly #beside = new Set<string>()

  async start(): Promise<void> {
    this.#session.connect()
    await this.#session.post('Profiler.enable')
    await this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
  }

  /** How many blocks are new. */
  async look(): Promise<number> {
    const before = this.blocks.size
    const { result } = await this.#session.post('Profiler.takePreciseCoverage')
    for (const { url, functions } of result) {
      const file = /\/(src\/.+)$/.exec(url)?.[1]
      if (file === undefined || url.includes('node_modules')) continue
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          const block = `${file}:${startOffset}-${endOffset}`
          if (count > 0) this.blocks.add(block)
          else this.#beside.add(block)
        }
      }
    }
    return this.blocks.size - before
  }

  /** `file -> [reached, known]`; a function that never ran is not known. */
  byFile(): Map<string, [number, number]> {
    const files = new Map<string, [number, number]>()
    for (const block of new Set([...this.blocks, ...this.#beside])) {
      const file = block.split(':')[0] ?? ''
      const [reached, known] = files.get(file) ?? [0, 0]
      files.set(file, [reached + (this.blocks.has(block) ? 1 : 0), known + 1])
    }
    return files
  }

  stop(): void {
    this.#session.disconnect()
  }
}

async function main(): Promise<void> {
  await using made = await makeTargets()
  const { target: only } = values
  const targets = made.targets.filter(({ name }) => only === undefined || name === only)
  if (targets.length === 0) {
    throw new Error(`--target: expected one of ${made.targets.map(({ name }) => name).join(', ')}`)
  }
  if (values.recipe !== undefined) {
    for (const target of targets) await feedRecipe(target, values.recipe.split(',').map(Number))
    return
  }
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  const corpus = readCorpus(await readFile(CORPUS, 'utf8').catch(() => ''))
  const coverage = new Coverage()
  await coverage.start()
  const reached = await fuzz(
    targets,
    corpus,
    coverage,
    new Random(seed),
    performance.now() + Number(values.seconds) * 1_000,
  )
  coverage.stop()
  for (const [file, [blocks, known]] of [...coverage.byFile()].sort()) {
    process.stdout.write(`${String(blocks).padStart(5)} of ${String(known).padStart(4)} blocks  ${file}\n`)
  }
  process.stdout.write(
    `seed ${seed}: ${reached.inputs} inputs, ${coverage.blocks.size} blocks, ${reached.kept} new inputs reached new ones\n`,
  )
  if (values.keep) await writeFile(CORPUS, writeCorpus(corpus))
}

/** Each target in turn gets a batch; a batch that reached new code is fed again one by one, to see which input did. */
async function fuzz(
  targets: readonly FuzzTarget[],
  corpus: Map<string, Recipe[]>,
  coverage: Coverage,
  random: Random,
  end: number,
): Promise<{ inputs: number; kept: number }> {
  let inputs = 0
  let kept = 0
  for (const target of targets) {
    for (const sample of target.samples) await feed(target, sample)
    for (const recipe of corpus.get(target.name) ?? []) await feedRecipe(target, recipe)
  }
  await coverage.look()
  while (performance.now() < end) {
    for (const target of targets) {
      const known = corpus.get(target.name) ?? []
      const batch = Array.from({ length: target.slow === true ? 2 : BATCH }, () => next(known, random))
      for (const recipe of batch) await feedRecipe(target, recipe)
      inputs += batch.length
      const blocks = new Set(coverage.blocks)
      if ((await coverage.look()) === 0) continue
      // reached by the batch: looked for again from where we were
      const found = new Set([...coverage.blocks].filter((block) => !blocks.has(block)))
      for (const block of found) coverage.blocks.delete(block)
      for (const recipe of batch) {
        await feedRecipe(target, recipe)
        if ((await coverage.look()) > 0) {
          corpus.set(target.name, [...(corpus.get(target.name) ?? []), recipe])
          kept += 1
        }
      }
      for (const block of found) coverage.blocks.add(block)
    }
  }
  return { inputs, kept }
}

/** Something new, or a change of something that reached new code. */
function next(known: readonly Recipe[], random: Random): Recipe {
  const more = random.int(0, 2 ** 31 - 1)
  return known.length > 0 && random.chance(0.5) ? [...random.pick(known), more].slice(-6) : [more]
}

if (values.help) process.stdout.write(HELP)
else await main()
