import assert from 'node:assert/strict'
import { test } from 'node:test'
import { includesOf } from '../../../agent/config-watch.ts'

test('finds what a configuration includes, quoted or not, also in a block, and nothing in a comment or a name', () => {
  const text = `
include "server.conf"
  include './more/accounts.conf'
include limits.conf # of the night
authorization { include users.conf }
# include "old.conf"
// include older.conf
includes: "x.conf"
server_name: include
`
  assert.deepEqual(includesOf(text), ['server.conf', './more/accounts.conf', 'limits.conf', 'users.conf'])
})
