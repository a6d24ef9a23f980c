/** A process that reads its files again on a signal. */
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import { type Duration, sleep } from '../../src/time.ts'
import { isRunning, readPid, runCommand, signalPidFile } from './process.ts'
import type { Target } from './target.ts'

export type SignalTargetConfig = Extract<TargetConfig, { type: 'signal' }>

/** A signal takes effect when the process runs next: one that dies of it is seen alive for a moment. */
const SURVIVES: Duration = 500
const LOOK_AGAIN: Duration = 20

/** Without a `check` command the proof is only that the process outlived the signal; the evidence says so. */
export function signalTarget(config: SignalTargetConfig): Target {
  let told = 0
  return {
    type: 'signal',
    name: config.pidFile,
    exclusive: false,
    check: async () => {
      await readPid(config.pidFile)
    },
    notify: async () => {
      told = await signalPidFile(config.pidFile, config.signal)
    },
    prove: async ({ signal }) => {
      if (config.check !== undefined) {
        await runCommand(config.check, config.timeout, signal)
        return { type: 'signal', name: config.pidFile, ok: true, evidence: `${config.check[0]} ended with 0` }
      }
      for (
        const end = performance.now() + SURVIVES;
        performance.now() < end;
        await sleep(LOOK_AGAIN, signal)
      ) {
        if (await isRunning(told)) continue
        const what = `process ${told} of ${config.pidFile} ended after ${config.signal}`
        throw new RotorError('ERR_PROOF_FAILED', what)
      }
      return {
        type: 'signal',
        name: config.pidFile,
        ok: true,
        evidence: `process ${told} is alive after ${config.signal}`,
      }
    },
  }
}
