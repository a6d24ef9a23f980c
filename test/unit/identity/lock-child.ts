/** A process that takes and releases a lock as its parent says; run by `fork`. */
import { RotorError } from '../../../src/errors.ts'
import { acquireLock, type DirectoryLock } from '../../../src/identity/lock.ts'

let lock: DirectoryLock | undefined

async function obey(order: unknown): Promise<string> {
  if (typeof order === 'object' && order !== null && 'take' in order && typeof order.take === 'string') {
    try {
      lock = await acquireLock(order.take)
      return 'held'
    } catch (error) {
      return RotorError.is(error) ? error.code : String(error)
    }
  }
  await lock?.release()
  lock = undefined
  return 'released'
}

process.on('message', (order) => {
  void obey(order).then((answer) => process.send?.(answer))
})
process.send?.('ready')
