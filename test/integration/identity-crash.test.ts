/**
 * An agent is killed with SIGKILL at every step of changing its identity directory, while two readers do nothing but
 * read it. 1. A directory with a first generation. 2. Readers start. 3. For each step: an agent works and dies there.
 * 4. Agents die at moments nobody chose. 5. The readers never saw two halves of different generations.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, readFileSync, readlinkSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { openDirectory } from '../../src/identity/directory.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { DIRECTORY_STEPS } from '../../src/identity/steps.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { keyMatches } from '../../src/trust/chain.ts'
import { privateKeyFromPem } from '../../src/trust/keys.ts'
import { factsOf, leftovers, makeMaterials, NOW, stateOf, temporaryFolder } from '../unit/identity/kit.ts'

interface Readings {
  count: number
  readonly generations: Set<string>
  /** What must never be seen. */
  readonly problems: string[]
}

const newReadings = (): Readings => ({ count: 0, generations: new Set(), problems: [] })

function belongTogether(certificate: string, key: string): boolean {
  const [leaf] = parseCertificates(certificate, 'tls.crt')
  return leaf !== undefined && keyMatches(leaf, privateKeyFromPem(key))
}

/** The reader we offer. */
async function readAsWeOffer(dir: string, readings: Readings, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { certificate, key, generation } = await readIdentity(dir, NOW)
      readings.count += 1
      readings.generations.add(generation)
      if (!belongTogether(certificate, key)) readings.problems.push(`${generation}: torn`)
    } catch (error) {
      readings.problems.push(String(error))
    }
  }
}

/** Which link it is: a target may come back (a generation that was put back), the link itself does not. */
function currentLink(dir: string): string {
  const { ino, ctimeNs } = lstatSync(join(dir, 'current'), { bigint: true })
  return `${readlinkSync(join(dir, 'current'))} ${ino} ${ctimeNs}`
}

/** A reader in any language: the public paths, read again when `current` moved meanwhile. */
async function readAsAnybody(dir: string, readings: Readings, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await turn()
    try {
      const link = currentLink(dir)
      const parts = readPublic(dir, link)
      if (parts === null || currentLink(dir) !== link) continue
      readings.count += 1
      readings.generations.add(link)
      if (!belongTogether(parts.certificate, parts.key)) readings.problems.push(`${link}: torn`)
    } catch (error) {
      readings.problems.push(String(error))
    }
  }
}

/** Null when the generation was removed while the paths were looked up: only if it is not current any more. */
function readPublic(dir: string, link: string): { certificate: string; key: string } | null {
  try {
    const certificate = readFileSync(join(dir, 'tls.crt'), 'utf8')
    return { certificate, key: readFileSync(join(dir, 'tls.key'), 'utf8') }
  } catch (error) {
    if (currentLink(dir) === link) throw error
    return null
  }
}

describe('an agent killed while it changes its identity directory', () => {
  const stop = new AbortController()
  const ours = newReadings()
  const anybodys = newReadings()
  const cleanup = new AsyncDisposableStack()
  const readers: Promise<void>[] = []
  let dir: string
  let materialsFile: string
  let highest = 1

  before(async () => {
    const folder = cleanup.use(await temporaryFolder())
    dir = join(folder.path, 'id')
    materialsFile = join(folder.path, 'materials.json')
    const materials = await makeMaterials(5)
    const [first] = materials
    assert.ok(first)
    await mkdir(dir, { mode: 0o700 })
    await writeFile(materialsFile, JSON.stringify(materials))
    await using directory = await openDirectory(dir)
    await directory.writeState(stateOf(1))
    await directory.publish(await directory.stage(first, factsOf(1), NOW))
    readers.push(readAsWeOffer(dir, ours, stop.signal), readAsAnybody(dir, anybodys, stop.signal))
  })

  after(async () => {
    stop.abort()
    await Promise.all(readers)
    await cleanup.disposeAsync()
  })

  /** Runs an agent until it is dead; `kill` is told of each lap. */
  async function runAgent(step: string, onLap: (lap: number, kill: () => void) => void): Promise<void> {
    const script = join(import.meta.dirname, 'identity-crash-child.ts')
    const agent = spawn(process.execPath, [script, dir, materialsFile, step], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [laps, text, problem] = [0, '', '']
    agent.stderr.on('data', (data) => {
      problem += data
    })
    agent.stdout.on('data', (data) => {
      text += data
      const lines = text.split('\n').length - 1
      while (laps < lines) onLap(++laps, () => agent.kill('SIGKILL'))
    })
    const [code, signal] = await once(agent, 'close')
    assert.deepEqual({ code, signal, problem }, { code: null, signal: 'SIGKILL', problem: '' })
    assert.ok(laps >= 3, `it worked before it died: ${laps} laps`)
  }

  /** What must hold after every crash, before and after the next agent opens the directory. */
  async function assertRecovers(): Promise<void> {
    const seen = await readIdentity(dir, NOW)
    await using directory = await openDirectory(dir)
    const current = await directory.current()
    assert.equal(current?.name, seen.generation)
    assert.deepEqual(await leftovers(dir), [])
    assert.equal((await readdir(join(dir, 'lock'))).length, 1, 'only our own lock is left')
    const names = await directory.list()
    assert.ok(names.length <= 4, `old generations do not pile up: ${names.join(' ')}`)
    for (const name of names) await directory.load(name, NOW)
    const accepted = (await directory.readState())?.highest?.version ?? 0
    assert.ok(accepted >= (current?.manifest.version ?? 0), 'nothing was published before it was accepted')
    assert.ok(accepted > highest, 'an accepted version never decreases (I4)')
    highest = accepted
  }

  for (const step of DIRECTORY_STEPS) {
    test(`at ${step}: the next one finds a complete generation and nothing left over`, async () => {
      await runAgent(step, () => {})
      await assertRecovers()
    })
  }

  test('at moments nobody chose: the same', async () => {
    for (let i = 0; i < 6; i++) {
      const lap = 3 + i
      await runAgent('-', (done, kill) => {
        // Up to 8 ms into the next lap, which takes about that long.
        if (done === lap) setTimeout(kill, Math.random() * 8)
      })
      await assertRecovers()
    }
  })

  test('no reader ever saw a key of one generation with a certificate of another, or nothing', (t) => {
    for (const [who, readings] of Object.entries({ ours, anybodys })) {
      t.diagnostic(`${who}: ${readings.count} reads of ${readings.generations.size} generations`)
      assert.deepEqual(readings.problems, [])
      assert.ok(readings.generations.size > DIRECTORY_STEPS.length, 'it saw the directory change')
    }
  })
})
