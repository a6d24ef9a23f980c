/** `nats-rotor/agent`: run an agent inside a process of your own. */

export { type AgentConfig, readAgentConfig } from '../src/domain/config.ts'
export { type AgentHandle, type AgentOptions, startAgent } from './agent.ts'
export { readBundle } from './bundle-source.ts'
export type { AgentEvent } from './events.ts'
export { type JoinOptions, joinDomain } from './join/join.ts'
export type { Target, TargetContext } from './targets/target.ts'
