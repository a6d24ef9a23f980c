/** Waiting for an agent that puts the old generation back. */
import type { AgentEvent } from '../../agent/index.ts'
import type { AgentStatus } from '../../src/wire/status.ts'
import { eventually } from './eventually.ts'
import { PATIENCE, type RunningDomain } from './running-domain.ts'

/** The status an agent has published, when it says that its last try was put back. */
export const rolledBack = (domain: RunningDomain, name: string): Promise<AgentStatus> =>
  eventually(
    async () => {
      const status = (await domain.overview()).agents.find((agent) => agent.name === name)?.status
      return status?.state === 'rolled-back' && status
    },
    { timeout: PATIENCE, interval: 100 },
  )

type RolledBack = Extract<AgentEvent, { type: 'rolled-back' }>

/** Its next try that is put back for this reason; others, that were under way before, may come first. */
export function nextRolledBack(
  domain: RunningDomain,
  name: string,
  reason: { readonly code: string; readonly words: RegExp },
): Promise<RolledBack> {
  const seen = domain.events.length
  const news = (): RolledBack[] =>
    domain.events
      .slice(seen)
      .flatMap((event) => (event.node === name && event.type === 'rolled-back' ? [event] : []))
  return eventually(
    () => {
      const found = news().find(({ code, message }) => code === reason.code && reason.words.test(message))
      if (found === undefined)
        throw new Error(`put back for other reasons only: ${news().map(({ message }) => message)}`)
      return found
    },
    { timeout: PATIENCE },
  )
}
