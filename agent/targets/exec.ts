/** A command of the user's that makes a process take the new files. */
import type { TargetConfig } from '../../src/domain/config.ts'
import { assertExecutable, runCommand } from './process.ts'
import type { Target } from './target.ts'

export type ExecTargetConfig = Extract<TargetConfig, { type: 'exec' }>

export function execTarget(config: ExecTargetConfig): Target {
  const name = config.command.join(' ')
  return {
    type: 'exec',
    name,
    exclusive: false,
    check: async () => {
      for (const command of [config.command, config.check]) {
        if (command?.[0] !== undefined) await assertExecutable(command[0])
      }
    },
    notify: async ({ signal }) => {
      await runCommand(config.command, config.timeout, signal)
    },
    prove: async ({ signal }) => {
      if (config.check === undefined)
        return { type: 'exec', name, ok: true, evidence: 'the command ended with 0' }
      await runCommand(config.check, config.timeout, signal)
      return { type: 'exec', name, ok: true, evidence: `${config.check[0]} ended with 0` }
    },
  }
}
