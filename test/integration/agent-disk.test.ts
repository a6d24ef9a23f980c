/**
 * The true `rotor agent` on a disk that takes nothing more, in the middle of a rotation: a small disk of its own that is full
 * to the last page, one with room for the record of the bundle and not for a generation, and one that became read-only.
 * Each time 1. a rotation is ordered; 2. the agent names path and reason, the rotation is held for it by name, and the
 * old generation stays in use; 3. there is room again, and the domain converges by itself.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { readIdentity } from '../../src/identity/read.ts'
import { eventually } from '../support/eventually.ts'
import { privateSpace } from '../support/private-space.ts'
import { PATIENCE, RunningDomain } from '../support/running-domain.ts'
import { without } from '../support/without.ts'

const run = promisify(execFile)
const NODES = ['issuer', 'nats-1', 'orders']
const PAGE = 4096
/** `$1`: the identity directory, which comes to lie on the small disk as it is. */
const SMALL_DISK =
  'cp -a "$1" "$1.copy" && mount -t tmpfs -o size=512k,mode=700 small "$1" && cp -a "$1.copy/." "$1" && shift && exec "$@"'

class Story {
  readonly domain: RunningDomain
  /** As the agent names it. */
  readonly path: string
  /** As this process sees it, through that of the agent. */
  readonly seen: string
  readonly #pid: number
  readonly #space: readonly string[]

  private constructor(domain: RunningDomain, pid: number, space: readonly string[]) {
    this.domain = domain
    this.path = domain.identityDir('orders')
    this.seen = `/proc/${pid}/root${this.path}`
    this.#pid = pid
    this.#space = space
  }

  static async begin(space: readonly string[]): Promise<Story> {
    const domain = await RunningDomain.start({ services: [{ name: 'orders' }] })
    try {
      await domain.startAll()
      const under = ['unshare', ...space, 'sh', '-c', SMALL_DISK, 'sh', domain.identityDir('orders')]
      const child = await domain.local.startAgent('orders', [], { under })
      await domain.settled(NODES)
      return new Story(domain, child.pid, space)
    } catch (cause) {
      await domain.stop()
      throw cause
    }
  }

  /** All pages are taken but `free`. */
  async fill(free: number): Promise<void> {
    const file = await open(join(this.seen, 'filler'), 'w')
    let pages = 0
    try {
      for (;;) {
        await file.write(Buffer.alloc(PAGE))
        pages += 1
      }
    } catch {
      await file.truncate(PAGE * (pages - free))
    } finally {
      await file.close()
    }
  }

  empty(): Promise<void> {
    return rm(join(this.seen, 'filler'))
  }

  async writable(yes: boolean): Promise<void> {
    const user = this.#space.includes('--user') ? ['--user', '--preserve-credentials'] : []
    // bind: only the flag of this mount. A whole remount gives tmpfs its options again, which a user may not.
    const remount = ['mount', '-o', `remount,bind,${yes ? 'rw' : 'ro'}`, this.path]
    await run('nsenter', ['--target', String(this.#pid), ...user, '--mount', ...remount])
  }
}

interface Trouble {
  readonly how: string
  readonly reason: string
  readonly begin: (story: Story) => Promise<void>
  readonly end: (story: Story) => Promise<void>
}

const TROUBLES: readonly Trouble[] = [
  {
    how: 'full to the last page',
    reason: 'ENOSPC',
    begin: (story) => story.fill(0),
    end: (story) => story.empty(),
  },
  {
    how: 'full but for the record of the bundle',
    reason: 'ENOSPC',
    begin: (story) => story.fill(4),
    end: (story) => story.empty(),
  },
  {
    how: 'read-only',
    reason: 'EROFS',
    begin: (story) => story.writable(false),
    end: (story) => story.writable(true),
  },
]

describe('the disk of an agent takes nothing more in a rotation', { timeout: 240_000 }, () => {
  let story: Story | null = null
  before(async () => {
    const space = await privateSpace(['--mount'], 'mount -t tmpfs -o size=64k t /tmp')
    if (space !== null) story = await Story.begin(space)
  })
  after(() => story?.domain.stop())

  for (const { how, reason, begin, end } of TROUBLES) {
    test(`${how}: it says where and why, the old generation stays in use, and with room again it goes on`, async (t) => {
      if (story === null) return without(t, 'no right to mount a small disk here')
      const { domain, path, seen } = story
      const before = await domain.overview()
      const { generation } = await readIdentity(seen)
      await begin(story)
      await domain.order()
      const held = await eventually(
        async () => {
          const now = await domain.overview()
          const [first, ...others] = now.waitingFor
          const isIt = first?.name === 'orders' && first.missing.includes('ERR_IDENTITY_WRITE')
          return isIt && others.length === 0 && { ...now, missing: first.missing }
        },
        { timeout: PATIENCE, interval: 100 },
      )
      assert.deepEqual([held.phase, held.active], ['distributing', before.active])
      t.diagnostic(held.missing)
      assert.ok(held.missing.includes(path) && held.missing.includes(reason), held.missing)
      assert.equal((await readIdentity(seen)).generation, generation)
      await end(story)
      await domain.settled(NODES, ({ active }) => active > before.active)
      assert.notEqual((await readIdentity(seen)).generation, generation)
    })
  }
})
