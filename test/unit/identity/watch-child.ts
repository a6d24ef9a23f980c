/** A process that watches an identity, stops, tells what is left, and has to end by itself; run by `execFile`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { watchIdentity } from '../../../src/identity/watch.ts'
import { NOW } from './kit.ts'

const [, , dir = '', way = ''] = process.argv
const clock = { now: () => NOW }
const stop = new AbortController()

if (way === 'failed start') await watchIdentity(join(dir, 'none'), { clock }).catch(() => {})
else {
  const identity = await watchIdentity(dir, { clock, poll: 1, signal: stop.signal })
  if (way === 'close in a read') writeFileSync(join(dir, 'tls.crt'), 'half')
  if (way !== 'close') await new Promise((resolve) => setTimeout(resolve, 40))
  if (way === 'signal') stop.abort()
  await Promise.all([identity.close(), identity.close()])
  await identity.close()
  if (way === 'close in a read') writeFileSync(join(dir, 'tls.crt'), identity.current().certificate)
}
const left = () =>
  process.getActiveResourcesInfo().filter((name) => /FSEvent|Timeout|FSReq|Immediate/.test(name))
// A closed handle is gone after a turn or two of the loop.
for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
process.stdout.write(JSON.stringify({ way, left: left() }))
