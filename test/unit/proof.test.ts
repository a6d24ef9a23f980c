/** The table of docs/proof.md names tests that exist. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

const ROOT = new URL('../../', import.meta.url)
const page = await readFile(new URL('docs/proof.md', ROOT), 'utf8')

/** `| promise or nothing | kind | file: name of the test |` */
const rows = [
  ...page.matchAll(/^\| (.*?) *\| (model|simulation|real|fuzzing) *\| (test\/[\w./-]+): (.+?) *\|$/gm),
].map(([, promise = '', kind = '', file = '', name = '']) => ({ promise, kind, file, name }))

test('every test that the page names exists', async () => {
  assert.ok(rows.length > 20)
  for (const { file, name } of rows) {
    const text = await readFile(new URL(file, ROOT), 'utf8')
    assert.ok(text.includes(`'${name}'`), `${file} has no test '${name}'`)
  }
})

test('every promise of the design has a simulation and more', () => {
  const kinds = new Map<string, Set<string>>()
  let promise = ''
  for (const row of rows) {
    promise = /^\*\*(\w\d)\*\*/.exec(row.promise)?.[1] ?? (row.promise === '' ? promise : '')
    kinds.set(promise, (kinds.get(promise) ?? new Set()).add(row.kind))
  }
  for (const id of ['I1', 'I2', 'I3', 'I4', 'I5', 'I6', 'L1']) {
    assert.ok(kinds.get(id)?.has('simulation'), `${id} is not simulated`)
    assert.ok((kinds.get(id)?.size ?? 0) >= 2, `${id} has one kind of test only`)
  }
})
