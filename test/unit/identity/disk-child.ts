/**
 * What an agent does on a disk that refuses writes. Run as a process of its own, because the disk (a mount only this
 * process sees), the limits and the user belong to the process. Prints one JSON line: see `disk.test.ts`.
 *
 *   disk-child.ts full|read-only|limited <dir> <file with materials> [mount]
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chmod, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../../../src/errors.ts'
import { type IdentityDirectory, openDirectory } from '../../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { factsOf, leftovers, NOW, stateOf } from './kit.ts'

export interface Outcome {
  /** `code reason` of each refused step, in order. */
  readonly refused: readonly string[]
  readonly messages: readonly string[]
  /** What was found in the directory that should not be there, after any of them. */
  readonly leftovers: readonly string[]
  /** Was the old generation readable, and the old state unchanged, after each of them? */
  readonly oldStayed: boolean
  /** Did the same work when the disk was good again? */
  readonly recovered: boolean
}

const [scenario = '', dir = '', file = '', how = ''] = process.argv.slice(2)
const [a, b]: IdentityMaterial[] = JSON.parse(readFileSync(file, 'utf8'))
if (a === undefined || b === undefined) throw new TypeError('expected two materials')

const refused: string[] = []
const messages: string[] = []
const found: string[] = []
let oldStayed = true

/** Runs steps that must fail and looks at the directory after each. */
async function expectRefusals(directory: IdentityDirectory, steps: readonly (() => Promise<unknown>)[]) {
  const before = await readdir(join(dir, 'generations'))
  for (const step of steps) {
    const error: unknown = await step().then(
      () => 'it worked',
      (thrown: unknown) => thrown,
    )
    refused.push(RotorError.is(error) ? `${error.code} ${String(error.details.reason)}` : String(error))
    messages.push(error instanceof Error ? error.message : '')
    found.push(...(await leftovers(dir)))
    found.push(...(await readdir(join(dir, 'generations'))).filter((name) => !before.includes(name)))
    oldStayed &&= (await readIdentity(dir, NOW)).key === a?.key
    oldStayed &&= (await directory.readState())?.highest?.version === 1
  }
}

async function begin(): Promise<IdentityDirectory> {
  const directory = await openDirectory(dir)
  await directory.writeState(stateOf(1))
  await directory.publish(await directory.stage(a as IdentityMaterial, factsOf(1), NOW))
  return directory
}

async function finish(directory: IdentityDirectory): Promise<boolean> {
  await directory.writeState(stateOf(2))
  await directory.publish(await directory.stage(b as IdentityMaterial, factsOf(2), NOW))
  await directory.close()
  return (await readIdentity(dir, NOW)).key === b?.key
}

const stageOf = (directory: IdentityDirectory) => () =>
  directory.stage(b as IdentityMaterial, factsOf(2), NOW)
const bigState = { ...stateOf(2), envelope: 'x'.repeat(20_000) }

/** Every page of the disk taken but for `free`, so that each file in turn is the one that has no place. */
async function full(): Promise<boolean> {
  const directory = await begin()
  const filler = join(dir, 'filler')
  for (let free = 0; free <= 3; free++) {
    const handle = await open(filler, 'w')
    let pages = 0
    try {
      for (;;) {
        await handle.write(Buffer.alloc(4096))
        pages += 1
      }
    } catch {
      await handle.truncate(4096 * (pages - free))
    } finally {
      await handle.close()
    }
    await expectRefusals(directory, [stageOf(directory), () => directory.writeState(bigState)])
  }
  await rm(filler)
  return await finish(directory)
}

async function readOnly(): Promise<boolean> {
  const parts = [join(dir, 'generations'), dir]
  const set = async (writable: boolean) => {
    // bind: only the flag of this mount. A whole remount gives tmpfs its options again, which a user may not.
    if (how === 'mount') execFileSync('mount', ['-o', `remount,bind,${writable ? 'rw' : 'ro'}`, dir])
    else for (const part of parts) await chmod(part, writable ? 0o700 : 0o500)
  }
  // Modes do not stop root, so then it is another user's work.
  if (how !== 'mount' && process.getuid?.() === 0) {
    process.setgid?.(65_534)
    process.setuid?.(65_534)
  }
  const directory = await begin()
  await directory.stage(b as IdentityMaterial, factsOf(2), NOW)
  const staged = await directory.stage(b as IdentityMaterial, factsOf(2), NOW)
  await set(false)
  await expectRefusals(directory, [
    stageOf(directory),
    () => directory.writeState(stateOf(2)),
    () => directory.publish(staged),
    () => directory.prune(),
  ])
  await set(true)
  await directory.publish(staged)
  return await finish(directory)
}

/** The limit is there from the start: the parent has made the directory. */
async function limited(): Promise<boolean> {
  const directory = await openDirectory(dir)
  await expectRefusals(directory, [stageOf(directory), () => directory.writeState(bigState)])
  await directory.close()
  return true
}

const scenarios: Readonly<Record<string, () => Promise<boolean>>> = { full, 'read-only': readOnly, limited }
const recovered = (await scenarios[scenario]?.()) ?? false
const outcome: Outcome = { refused, messages, leftovers: found, oldStayed, recovered }
process.stdout.write(`${JSON.stringify(outcome)}\n`)
