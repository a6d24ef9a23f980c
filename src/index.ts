/** `nats-rotor`: what a service needs in its own process. */

export { adopt, connect, type RotorConnectionOptions } from './connection/connect.ts'
export type { FollowOptions, HandoffEvent } from './connection/following.ts'
export { ERRORS, RotorError, type RotorErrorCode } from './errors.ts'
export { HeldIdentity, type Identity, type IdentitySnapshot } from './identity/identity.ts'
export { type ReadOptions, readIdentity } from './identity/read.ts'
export type { Follower, FollowerType, Usage } from './identity/usage.ts'
export { type WatchedIdentity, type WatchOptions, watchIdentity } from './identity/watch.ts'
export { type Logger, makeLogger, silentLogger } from './log.ts'
export { connectWith, natsTls } from './nats/connect.ts'
export { assertProven, type ProbeResult, probeListener } from './probe/probe.ts'
export { type HttpsAgent, type HttpsAgentOptions, httpsAgent } from './tls/https-agent.ts'
export { type SecuredServer, type SecureServerOptions, secureServer } from './tls/secure-server.ts'

import { domainNames } from './wire/names.ts'

/** What a service has to give nats.js as `inboxPrefix`: its user may receive answers nowhere else. */
export const inboxPrefix = (domain: string, agent: string): string => domainNames(domain).inbox(agent)
