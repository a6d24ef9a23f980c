/**
 * Who owns this identity directory? A lock that a killed process can not keep and that two starters can not both get.
 *
 * Each process that wants the directory creates a file of its own in `lock/`; the name says who it is, so it is
 * complete from birth and never used by anybody else. It then lists the folder: whoever sees no other living process
 * has the lock. Of two processes the later one to create its file lists after that, so it sees the other: never
 * both. Files of dead processes are removed, which is safe because nobody else ever takes the same name.
 *
 * assumption: all agents of a directory see the same processes. Containers that share a directory but not the
 * process table do not notice each other; a restarted container does take over from its former self.
 */
import { randomBytes } from 'node:crypto'
import { open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { RotorError } from '../errors.ts'
import { sleep } from '../time.ts'
import { errorCode, writing } from './durable.ts'

export interface DirectoryLock {
  /** Idempotent. */
  release(): Promise<void>
}

/** A process, also told apart from a later one with the same pid. */
interface Holder {
  readonly pid: number
  /** When it started, in clock ticks since boot, and the boot; `unknown` where there is no /proc. */
  readonly started: string
  readonly token: string
}

/** Tries when others start at the same moment; each is 5 to 30 ms. */
const TRIES = 40
const HELD = 'held\n'

/** Takes the lock, or throws ERR_IDENTITY_LOCKED naming the process that has it. The folder must exist. */
export async function acquireLock(folder: string): Promise<DirectoryLock> {
  const token = randomBytes(8).toString('hex')
  const name = lockName({ pid: process.pid, started: await startOf(process.pid), token })
  const path = join(folder, name)
  for (let attempt = 0; attempt < TRIES; attempt++) {
    await writing(path, async () => (await open(path, 'a', 0o600)).close())
    const others = await livingOthers(folder, name)
    if (others.length === 0) {
      await writing(path, () => markHeld(path))
      return { release: () => rm(path, { force: true }) }
    }
    const holder = await findHolder(folder, others)
    // Among starters the smallest token stays in place and the others step back, so one of them gets through.
    if (holder !== undefined || others.some((other) => other.token < token)) await rm(path, { force: true })
    if (holder !== undefined) throw locked(folder, holder.pid)
    await sleep(5 + Math.random() * 25)
  }
  await rm(path, { force: true })
  throw locked(folder)
}

async function markHeld(path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await file.writeFile(HELD)
  } finally {
    await file.close()
  }
}

/** All living processes with a file in the folder but us; removes the files of dead ones. */
async function livingOthers(folder: string, ours: string): Promise<Holder[]> {
  const living: Holder[] = []
  for (const name of await readdir(folder)) {
    const holder = parseLockName(name)
    if (holder === null || name === ours) continue
    if (await isAlive(holder)) living.push(holder)
    else await writing(join(folder, name), () => rm(join(folder, name), { force: true }))
  }
  return living
}

/** The one that has the lock already. Only a hint that saves the others from trying again. */
async function findHolder(folder: string, candidates: readonly Holder[]): Promise<Holder | undefined> {
  for (const candidate of candidates) {
    const content = await readFile(join(folder, lockName(candidate)), 'utf8').catch(() => '')
    if (content === HELD) return candidate
  }
  return undefined
}

async function isAlive({ pid, started }: Holder): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch (cause) {
    // EPERM: it lives and belongs to somebody else.
    if (errorCode(cause) === 'ESRCH') return false
  }
  const now = await startOf(pid)
  return now !== DEAD && (now === started || now === UNKNOWN || started === UNKNOWN)
}

const UNKNOWN = 'unknown'
const DEAD = 'dead'

/** Start time and boot of a living process. A zombie is dead: its files are closed and it runs no more. */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    // proc_pid_stat(5): the name in field 2 may hold anything, also ")", so count from the last one: state is
    // field 3, starttime is field 22.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields[0] === 'Z' || fields[0] === 'X') return DEAD
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')
    return `${fields[19] ?? ''}.${boot.slice(0, 8)}`
  } catch {
    // No /proc, or it is hidden from us: the pid is all there is to know.
    return UNKNOWN
  }
}

const lockName = ({ pid, started, token }: Holder): string => `${pid}-${started}-${token}`

function parseLockName(name: string): Holder | null {
  const [, pid, started, token] = /^([1-9]\d{0,9})-([a-z0-9.]{1,40})-([0-9a-f]{16})$/.exec(name) ?? []
  if (pid === undefined || started === undefined || token === undefined) return null
  return { pid: Number(pid), started, token }
}

function locked(folder: string, pid?: number): RotorError {
  const who = pid === undefined ? 'other processes try to start on it at once' : `process ${pid} has it`
  return new RotorError('ERR_IDENTITY_LOCKED', `${folder}: ${who}`, {
    details: pid === undefined ? { path: folder } : { path: folder, pid },
  })
}
