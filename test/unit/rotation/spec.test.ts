import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { EVENTS, type EventKind, type Expected, TABLE } from '../../support/transition-table.ts'

const root = new URL('../../../', import.meta.url)
/** With the padding of its tables taken out. */
const spec = readFileSync(new URL('src/rotation/SPEC.md', root), 'utf8').replaceAll(/ +\|/g, ' |')

/** `### test/...` headings of the checklist with their rows: test name -> promises it guards. */
const listed = new Map(
  spec
    .split(/^### (?=test\/)/m)
    .slice(1)
    .map((section) => {
      const [file = '', ...lines] = section.split('\n')
      const rows = lines.flatMap((line) => {
        const [, name, promises] = /^\| (.+?) \| ((?:[A-Z]\d+(?:, )?)+) \|$/.exec(line) ?? []
        return name === undefined || promises === undefined ? [] : [[name, promises.split(', ')] as const]
      })
      return [file.trim(), new Map(rows)] as const
    }),
)

/** `**I1**` and so on: what SPEC.md promises. */
const promised = new Set([...spec.matchAll(/^\| \*\*([A-Z]\d+)\*\* \|/gm)].map(([, id]) => id ?? ''))

const files = [
  ...readdirSync(new URL('test/unit/rotation/', root)).map((name) => `test/unit/rotation/${name}`),
  'test/model/rotation.test.ts',
]

const namesIn = (file: string): string[] =>
  [...readFileSync(new URL(file, root), 'utf8').matchAll(/^test\(\s*'([^']+)'/gm)].map(
    ([, name]) => name ?? '',
  )

test('SPEC.md lists every test of the rotation, and no other', () => {
  assert.deepEqual([...listed.keys()].sort(), files.sort())
  for (const file of files)
    assert.deepEqual([...(listed.get(file)?.keys() ?? [])].sort(), namesIn(file).sort(), file)
})

test('every promise of SPEC.md is guarded by a test, and every test guards a promise of it', () => {
  const guarded = new Set([...listed.values()].flatMap((rows) => [...rows.values()].flat()))
  assert.ok(promised.size > 0)
  assert.deepEqual([...guarded].sort(), [...promised].sort())
})

const inWords = (expected: Expected): string => {
  if ('wait' in expected) return `= ${expected.wait}`
  return 'move' in expected ? `-> ${expected.move}` : expected.error
}

test('the table of SPEC.md is the table the tests use', () => {
  const { steady, distributing, converging, withdrawing, introducing } = TABLE
  for (const kind of Object.keys(EVENTS) as EventKind[]) {
    const phases = [steady, distributing, converging, withdrawing, introducing]
    const cells = phases.map((phase) => inWords(phase[kind]))
    assert.ok(spec.includes(`\n| ${kind} | ${cells.join(' | ')} |\n`), `${kind}: ${cells.join(' | ')}`)
  }
})
