/** A clock that can be set, for one process: libfaketime beneath it, so that Node, V8 and OpenSSL all see the same time. */
import { rename, writeFile } from 'node:fs/promises'
import { findServer } from '../../scripts/servers.mjs'
import type { Duration } from '../../src/time.ts'

/** Null where there is no libfaketime. */
export const findFaketime = (): string | null => findServer('libfaketime')?.path ?? null

export class FakeClock {
  /** For the process that is to have this clock. */
  readonly env: Readonly<Record<string, string>>
  readonly #file: string

  private constructor(library: string, file: string) {
    this.#file = file
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      // the file is read at every look, so a clock can be set in a process that runs
      FAKETIME_NO_CACHE: '1',
      // timers go by it, and on a real machine nobody can set it
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    }
  }

  /** Right at first. `file` is made, and keeps the offset. */
  static async make(library: string, file: string): Promise<FakeClock> {
    const clock = new FakeClock(library, file)
    await clock.set(0)
    return clock
  }

  /** How far it is ahead of the true time, milliseconds; whole seconds. */
  async set(offset: Duration): Promise<void> {
    // in one step: an empty file is another time
    await writeFile(`${this.#file}.new`, `${offset < 0 ? '-' : '+'}${Math.abs(offset) / 1000}s`)
    await rename(`${this.#file}.new`, this.#file)
  }
}
