import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { FINDINGS } from '../../../src/preflight/findings.ts'

test('docs/preflight.md lists each finding with its severity, meaning and action, and no other', () => {
  const page = readFileSync(fileURLToPath(new URL('../../../docs/preflight.md', import.meta.url)), 'utf8')
  const rows = page
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => ['error', 'warning', 'info'].includes(cells[2] ?? ''))
    .map(([, id = '', ...cells]) => [id.replaceAll('`', ''), ...cells.slice(0, 3)])
  const expected = Object.entries(FINDINGS).map(([id, one]) => [id, one.severity, one.means, one.action])
  assert.deepEqual(rows, expected)
})
