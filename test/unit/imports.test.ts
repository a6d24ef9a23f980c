/** The layers of the code as promises: who may import whom, and who may touch the process. */
import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDERS = ['src', 'agent', 'issuer', 'cli', 'demo', 'bench', 'test', 'scripts'] as const
type Folder = (typeof FOLDERS)[number]

/** What code of a folder may import besides its own folder and packages. */
const MAY_IMPORT: Readonly<Record<Folder, readonly Folder[]>> = {
  // only src/local, which finds the real servers; see below
  src: ['scripts'],
  agent: ['src'],
  issuer: ['src'],
  cli: ['src', 'agent', 'issuer', 'demo'],
  demo: ['src', 'agent', 'issuer'],
  bench: ['src', 'agent', 'issuer', 'demo'],
  test: ['src', 'agent', 'issuer', 'cli', 'demo', 'bench', 'scripts'],
  scripts: [],
}

/** Modules that compute without touching the world. */
const PURE_NODE = new Set(['node:assert', 'node:buffer', 'node:crypto', 'node:path', 'node:util'])
/** The one function of node:net that computes only. */
const PURE_NET = "import { isIP } from 'node:net'"
const PURE_PACKAGES = new Set(['zod', 'jose', '@peculiar/x509', 'reflect-metadata'])
const isPure = (file: string): boolean =>
  file.startsWith('src/rotation/') ||
  file.startsWith('src/preflight/') ||
  ['src/schedule.ts', 'src/bundle/payload.ts'].includes(file)

interface Import {
  /** Path in the repository, or the name of a package. */
  readonly target: string
  readonly own: boolean
  /** Gone at run time. */
  readonly typeOnly: boolean
}

const STATEMENT =
  /^\s*(?:import|export)\s+(type\s+)?(?:[\w$*{][^'"`;]*?\sfrom\s*)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm

function importsOf(file: string, text: string): Import[] {
  return [...text.replace(PURE_NET, '').matchAll(STATEMENT)].map(([, type, named, dynamic]) => {
    const specifier = named ?? dynamic ?? ''
    const own = specifier.startsWith('.')
    const target = own ? join(dirname(file), specifier) : specifier
    return { target, own, typeOnly: type !== undefined }
  })
}

const folderOf = (file: string): Folder | undefined => FOLDERS.find((folder) => file.startsWith(`${folder}/`))

describe('imports', () => {
  const graph = new Map<string, Import[]>()
  const texts = new Map<string, string>()

  before(async () => {
    for await (const path of glob(
      FOLDERS.map((folder) => `${folder}/**/*.{ts,mjs}`),
      { cwd: ROOT },
    )) {
      const text = await readFile(join(ROOT, path), 'utf8')
      texts.set(path, text)
      graph.set(path, importsOf(path, text))
    }
  })

  const edges = () => [...graph].flatMap(([file, imports]) => imports.map((each) => ({ file, ...each })))

  test('are found at all', () => {
    const targets = graph.get('src/local/nats-server.ts')?.map((each) => each.target)
    for (const expected of ['node:child_process', 'scripts/servers.mjs', 'src/errors.ts']) {
      assert.ok(targets?.includes(expected), expected)
    }
    assert.ok(graph.size > 50)
  })

  test('keep to the layers: src knows nobody, agent and issuer never know each other', () => {
    const wrong = edges().filter(({ file, target, own }) => {
      const [from, to] = [folderOf(file), folderOf(target)]
      return own && from !== undefined && to !== undefined && from !== to && !MAY_IMPORT[from].includes(to)
    })
    assert.deepEqual(wrong.map(show), [])
  })

  test('of the setup scripts happen in src/local only', () => {
    const wrong = edges().filter(
      ({ file, target }) =>
        file.startsWith('src/') && target.startsWith('scripts/') && !file.startsWith('src/local/'),
    )
    assert.deepEqual(wrong.map(show), [])
  })

  test('bring no I/O into the decisions', () => {
    const reachable = new Set<string>()
    const queue = [...graph.keys()].filter(isPure)
    for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
      if (reachable.has(file)) continue
      reachable.add(file)
      for (const each of graph.get(file) ?? []) if (each.own && !each.typeOnly) queue.push(each.target)
    }
    const wrong = edges().filter(
      ({ file, target, own, typeOnly }) =>
        reachable.has(file) && !own && !typeOnly && !PURE_NODE.has(target) && !PURE_PACKAGES.has(target),
    )
    assert.deepEqual(wrong.map(show), [])
    assert.ok(reachable.has('src/schedule.ts') && reachable.has('src/rotation/advance.ts'))
  })

  test('have no cycles', () => {
    const done = new Set<string>()
    const cycles: string[] = []
    const visit = (file: string, path: readonly string[]): void => {
      if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '))
      if (path.includes(file) || done.has(file)) return
      for (const each of graph.get(file) ?? [])
        if (each.own && !each.typeOnly) visit(each.target, [...path, file])
      done.add(file)
    }
    for (const file of graph.keys()) visit(file, [])
    assert.deepEqual(cycles, [])
  })

  test('aside: only the command line and the demo end the process or listen to its signals', () => {
    const wrong = [...texts].filter(
      ([file, text]) =>
        /^(src|agent|issuer)\//.test(file) && /\bprocess\.(exit|exitCode|on|once|addListener)\b/.test(text),
    )
    assert.deepEqual(
      wrong.map(([file]) => file),
      [],
    )
  })
})

const show = ({ file, target }: { file: string; target: string }): string => `${file} imports ${target}`
