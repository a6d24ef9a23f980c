/** How operator commands reach the domain: with the issuer's identity, on a connection of their own. */
import type { NatsConnection } from '@nats-io/transport-node'
import { HeldIdentity } from '../identity/identity.ts'
import { readIdentity } from '../identity/read.ts'
import { connectWith } from '../nats/connect.ts'
import { type DomainNames, domainNames } from '../wire/names.ts'
import { type IssuerConfig, readIssuerConfig } from './config.ts'

export interface Operator {
  readonly config: IssuerConfig
  readonly names: DomainNames
  readonly nc: NatsConnection
}

/** Runs `work` with a connection and closes it. Throws ERR_NATS_* and ERR_IDENTITY_*. */
export async function asOperator<T>(
  configFile: string,
  work: (operator: Operator) => Promise<T>,
): Promise<T> {
  const config = await readIssuerConfig(configFile)
  const names = domainNames(config.domain)
  const identity = new HeldIdentity(await readIdentity(config.identity))
  const nc = await connectWith({
    servers: config.servers,
    identity,
    handshakeFirst: config.handshakeFirst,
    name: 'rotor-operator',
    inboxPrefix: names.inbox(config.name),
  })
  try {
    return await work({ config, names, nc })
  } finally {
    await nc.close()
  }
}
