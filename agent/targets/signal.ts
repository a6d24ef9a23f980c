/** A process that reads its files again on a signal. */
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { type Duration, sleep } from '../../src/time.ts'
import { type Disposition, isRunning, readSignallable, signalPidFile } from './process.ts'
import { Proof } from './proof.ts'
import type { Target } from './target.ts'

export type SignalTargetConfig = Extract<TargetConfig, { type: 'signal' }>

/** A signal takes effect when the process runs next: one that ends by its handler is seen alive for a moment. */
const SURVIVES: Duration = 500
const LOOK_AGAIN: Duration = 20

/** Without `probe` and `check` the proof is only that the process outlived the signal; the evidence says so. */
export function signalTarget(config: SignalTargetConfig, initial: IdentitySnapshot): Target {
  const { pidFile, signal: name } = config
  const proof = new Proof(config, initial)
  let told: { pid: number; disposition: Disposition | null } = { pid: 0, disposition: null }
  const ended = () => `process ${told.pid} of ${pidFile} ended after ${name}`

  const outlive = async (signal: AbortSignal): Promise<string> => {
    const end = performance.now() + SURVIVES
    for (; performance.now() < end; await sleep(LOOK_AGAIN, signal)) {
      if (!(await isRunning(told.pid))) throw new RotorError('ERR_PROOF_FAILED', ended())
    }
    const heard = told.disposition === 'ignores' ? ', which it ignores' : ''
    return `process ${told.pid} was sent ${name}${heard} and is running; nothing was asked for that shows more`
  }

  return {
    type: 'signal',
    name: pidFile,
    exclusive: false,
    check: async (signal) => {
      await readSignallable(pidFile, name, config)
      await proof.check(initial, signal)
    },
    notify: async () => {
      told = await signalPidFile(pidFile, name, config)
    },
    prove: async (context) => {
      const { signal } = context
      const evidence = await proof.prove(context).catch(async (cause) => {
        signal.throwIfAborted()
        // Somebody may have started it again, so this is known for sure only now.
        if (await isRunning(told.pid)) throw cause
        const { message } = RotorError.from(cause)
        throw new RotorError('ERR_PROOF_FAILED', `${ended()}: ${message}`, { cause })
      })
      return {
        type: 'signal',
        name: pidFile,
        ok: true,
        ...(evidence ?? { evidence: await outlive(signal) }),
      }
    },
  }
}
