/** A command of the user's that makes a process take the new files. */
import type { TargetConfig } from '../../src/domain/config.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { assertExecutable, runCommand } from './command.ts'
import { Proof } from './proof.ts'
import type { Target } from './target.ts'

export type ExecTargetConfig = Extract<TargetConfig, { type: 'exec' }>

/** Without `probe` and `check` the proof is only that the command ended with 0; the evidence says so. */
export function execTarget(config: ExecTargetConfig, initial: IdentitySnapshot): Target {
  const name = config.command.join(' ')
  const proof = new Proof(config, initial)
  return {
    type: 'exec',
    name,
    exclusive: false,
    check: async (signal) => {
      if (config.command[0] !== undefined) await assertExecutable(config.command[0])
      await proof.check(initial, signal)
    },
    notify: async ({ signal }) => {
      await runCommand(config.command, { timeout: config.timeout, signal })
    },
    prove: async (context) => {
      const evidence = await proof.prove(context)
      return {
        type: 'exec',
        name,
        ok: true,
        ...(evidence ?? { evidence: 'the command ended with 0; nothing was asked for that shows more' }),
      }
    },
  }
}
