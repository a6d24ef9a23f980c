/**
 * The real identity directory on a disk that keeps no more than it promised, stopped at every single operation: there
 * is always one whole generation to load (I3), and what was accepted stays accepted (I4).
 */
import '../support/memory-disk/redirect.ts'
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import type { IdentityDirectory } from '../../src/identity/directory.ts'
import type { IdentityMaterial } from '../../src/identity/material.ts'
import type { AcceptedState } from '../../src/identity/state.ts'
import { Random } from '../support/random.ts'

const { openDirectory } = await import('../../src/identity/directory.ts')
const { readIdentity } = await import('../../src/identity/read.ts')
const { RotorError } = await import('../../src/errors.ts')
const { Folder, MemoryDisk, useDisk } = await import('../support/memory-disk/disk.ts')
const { makeTestDomain } = await import('../support/test-domain.ts')

const DIR = '/var/identity'
const NOW = Date.UTC(2026, 10, 22, 12)
/** Power cuts of different luck at each operation. */
const CUTS = 2

describe('an identity directory on a disk in memory', () => {
  let materials: readonly IdentityMaterial[]
  let state: AcceptedState
  before(async () => {
    const domain = await makeTestDomain({ domain: 'prod', now: NOW })
    const ca = domain.authorities.map(({ certificate }) => certificate.pem).join('')
    const leaves = await Promise.all([domain.leaf(), domain.leaf(), domain.leaf()])
    materials = leaves.map(({ keyPem, chainPem }) => ({ key: keyPem, certificate: chainPem, ca }))
    state = {
      v: 1,
      domain: 'prod',
      agent: 'a',
      highest: null,
      signers: [domain.signer.key],
      roots: [],
      envelope: null,
      proven: null,
    }
  })

  /** What the agent knows to be done: the end of each step. */
  interface Done {
    accepted: number
    /** Versions that may be the current one, null for none: the last published, and the one being published. */
    current: readonly (number | null)[]
  }

  const accept = async (directory: IdentityDirectory, version: number, done: Done): Promise<void> => {
    const digest = version.toString(16).padStart(64, '0')
    await directory.writeState({ ...state, highest: { version, digest } })
    done.accepted = version
  }

  /** Accepts, stages and publishes one version, as an agent does. */
  const apply = async (directory: IdentityDirectory, version: number, done: Done): Promise<string> => {
    await accept(directory, version, done)
    const digest = version.toString(16).padStart(64, '0')
    const material = materials[version % materials.length] ?? assert.fail()
    const staged = await directory.stage(material, { version, digest, epoch: 1 }, NOW)
    done.current = [...done.current, version]
    await directory.publish(staged)
    done.current = [version]
    return staged.name
  }

  /** Three versions, one of them put back and applied again, old ones removed. */
  const work = async (done: Done): Promise<void> => {
    await using directory = await openDirectory(DIR)
    const first = await apply(directory, 1, done)
    await apply(directory, 2, done)
    done.current = [1, 2]
    await directory.putBack({ name: first })
    done.current = [1]
    await apply(directory, 2, done)
    await directory.prune(1)
    await apply(directory, 3, done)
    await directory.prune(1)
  }

  /** What must be so after a stop, before anybody tidied up, and after an agent started again. */
  const examine = async (disk: InstanceType<typeof MemoryDisk>, done: Done, what: string): Promise<void> => {
    const found = await readIdentity(DIR, NOW).then(
      ({ version }) => version,
      (cause) => (done.current.includes(null) ? null : assert.fail(`${what}: ${cause}`)),
    )
    assert.ok(done.current.includes(found), `${what}: version ${found} is read, not ${done.current}`)
    forgetLock(disk)
    const again: Done = { accepted: done.accepted, current: done.current }
    await using directory = await openDirectory(DIR)
    const stored = (await directory.readState())?.highest?.version ?? 0
    assert.ok(stored >= done.accepted, `${what}: accepted ${stored}, and had accepted ${done.accepted}`)
    const current = await directory.current()
    if (current !== null) await directory.load(current.name, NOW)
    await apply(directory, 9, again)
    assert.equal((await readIdentity(DIR, NOW)).version, 9, what)
  }

  /** The process that held the lock is gone; whether it is, the test can not show with one process. */
  const forgetLock = (disk: InstanceType<typeof MemoryDisk>): void => {
    const find = (folder: InstanceType<typeof Folder>, name: string) => {
      const node = folder.entries.get(name)
      return node instanceof Folder ? node : null
    }
    const var_ = find(disk.root, 'var')
    const identity = var_ === null ? null : find(var_, 'identity')
    const lock = identity === null ? null : find(identity, 'lock')
    lock?.entries.clear()
    lock?.changed()
  }

  const fresh = (): InstanceType<typeof MemoryDisk> => {
    const disk = new MemoryDisk()
    useDisk(disk)
    return disk
  }

  /** How many operations the work takes. */
  const count = async (): Promise<number> => {
    const disk = fresh()
    await work({ accepted: 0, current: [null] })
    return disk.operations
  }

  it('is whole after a kill at every operation', async () => {
    const operations = await count()
    assert.ok(operations > 100, `only ${operations} operations`)
    for (let operation = 1; operation <= operations; operation++) {
      const disk = fresh()
      disk.trouble(operation, 'stop after')
      const done: Done = { accepted: 0, current: [null] }
      await Promise.race([work(done), disk.stopped])
      await examine(disk, done, `killed after operation ${operation}`)
    }
  })

  it('is whole after a power cut at every operation, whatever of the unsynced is lost', async () => {
    const operations = await count()
    for (let operation = 1; operation <= operations; operation++) {
      for (let luck = 1; luck <= CUTS; luck++) {
        const disk = fresh()
        disk.trouble(operation, 'stop after')
        const done: Done = { accepted: 0, current: [null] }
        await Promise.race([work(done), disk.stopped])
        disk.powerCut(new Random(operation * 1_000 + luck))
        await examine(disk, done, `power cut after operation ${operation}, luck ${luck}`)
      }
    }
  })

  it('stays as it was when the disk is full at any operation, and goes on when there is room', async () => {
    const operations = await count()
    for (let operation = 1; operation <= operations; operation++) {
      const disk = fresh()
      disk.trouble(operation, 'no room')
      const done: Done = { accepted: 0, current: [null] }
      await work(done).catch((cause) => {
        assert.ok(RotorError.is(cause), String(cause))
        assert.equal(cause.code, 'ERR_IDENTITY_WRITE', cause.message)
      })
      disk.makeRoom()
      await examine(disk, done, `no room at operation ${operation}`)
    }
  })

  it('is seen not to be whole on a disk that does not keep what it has synced', async () => {
    const operations = await count()
    const cut = async (operation: number): Promise<void> => {
      const disk = fresh()
      disk.lies = true
      disk.trouble(operation, 'stop after')
      const done: Done = { accepted: 0, current: [null] }
      await Promise.race([work(done), disk.stopped])
      disk.powerCut(new Random(operation))
      await examine(disk, done, `power cut after operation ${operation}`)
    }
    const all = async (): Promise<void> => {
      for (let operation = 1; operation <= operations; operation++) await cut(operation)
    }
    await assert.rejects(all(), assert.AssertionError)
  })
})
