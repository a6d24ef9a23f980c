/** `nats-rotor`: what a service needs in its own process. */

export { RebuiltConnection, type RebuiltConnectionOptions, type Use } from './connection/rebuild.ts'
export { ERRORS, RotorError, type RotorErrorCode } from './errors.ts'
export { HeldIdentity, type Identity, type IdentitySnapshot } from './identity/identity.ts'
export { readIdentity } from './identity/read.ts'
export { type Logger, makeLogger, silentLogger } from './log.ts'
export { connectWith, natsTls } from './nats/connect.ts'
export { assertProven, type ProbeResult, probeListener } from './probe/probe.ts'
