/** `nats-rotor/issuer`: run an issuer inside a process of your own. */

export { type IssuerConfig, readIssuerConfig } from '../src/domain/config.ts'
export type { Authority, LeafRequest, RootStore, WantedRoot } from './authority/authority.ts'
export { EmbeddedAuthority, type EmbeddedOptions } from './authority/embedded.ts'
export { type IssuerHandle, type IssuerOptions, startIssuer } from './issuer.ts'
export type { JoinLimits, Limit } from './join/limits.ts'
export type { IssuerEvent } from './loop/events.ts'
