/**
 * An agent that changes its identity directory without a pause and dies at a given step.
 *
 *   identity-crash-child.ts <dir> <file with materials> <step, or "-" to be killed from outside>
 *
 * Prints a line after each lap. It goes three laps before it dies by itself, so that every step was also passed.
 */
import { readFileSync } from 'node:fs'
import { openDirectory } from '../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../src/identity/material.ts'
import { factsOf, NOW, stateOf } from '../unit/identity/kit.ts'

const [dir = '', file = '', dieAt = '-'] = process.argv.slice(2)
const materials: IdentityMaterial[] = JSON.parse(readFileSync(file, 'utf8'))

let laps = 0
await using directory = await openDirectory(dir, {
  trace: (step) => {
    if (laps >= 3 && step === dieAt) process.kill(process.pid, 'SIGKILL')
  },
})

const accepted = (await directory.readState())?.highest?.version ?? 0
for (let version = accepted + 1; ; version++) {
  const material = materials[version % materials.length]
  if (material === undefined) throw new TypeError('expected materials')
  await directory.writeState(stateOf(version))
  const staged = await directory.stage(material, factsOf(version), NOW)
  const previous = await directory.publish(staged)
  if (version % 3 === 0 && previous !== null) {
    await directory.putBack(previous)
    await directory.publish(staged)
  }
  await directory.prune(2)
  laps += 1
  process.stdout.write(`${version}\n`)
}
