/**
 * How operator commands reach the domain: with the issuer's identity, on a connection of their own. A command may last
 * longer than the leaf it began with, so it follows the identity.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import type { z } from 'zod'
import { RotorError, type RotorErrorCode } from '../errors.ts'
import type { Identity } from '../identity/identity.ts'
import { watchIdentity } from '../identity/watch.ts'
import { connectWith } from '../nats/connect.ts'
import { type DomainNames, domainNames, isName } from '../wire/names.ts'
import { decodeRecord, encodeRecord } from '../wire/record.ts'
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
  await using identity = await watchIdentity(config.identity)
  const nc = await connectWith({
    servers: config.servers,
    identity,
    handshakeFirst: config.handshakeFirst,
    name: 'rotor-operator',
    inboxPrefix: names.inbox(nameIn(identity, names) ?? config.name),
  })
  try {
    return await work({ config, names, nc })
  } finally {
    await nc.close()
  }
}

/** Whose identity this is: on the machine of another issuer it is not the one that the configuration names. */
function nameIn(identity: Identity, names: DomainNames): string | undefined {
  const before = names.spiffeId('')
  return identity
    .current()
    .leaf.names.uri.filter((uri) => uri.startsWith(before))
    .map((uri) => uri.slice(before.length))
    .find(isName)
}

type Answered<T extends z.ZodType> = Extract<z.infer<T>, { ok: true }>

/**
 * One request to the issuers of the domain and the answer, checked. Throws the refusal of the issuer, ERR_NATS_UNAVAILABLE
 * when none answers, ERR_RECORD_INVALID.
 */
export async function askIssuer<
  T extends z.ZodType<{ ok: true } | { ok: false; code: RotorErrorCode; message: string }>,
>(nc: NatsConnection, subject: string, request: unknown, answerSchema: T): Promise<Answered<T>> {
  const reply = await nc.request(subject, encodeRecord(request), { timeout: 10_000 }).catch((cause) => {
    throw RotorError.from(cause, 'ERR_NATS_UNAVAILABLE', `no issuer answers on ${subject}`)
  })
  const answer = decodeRecord(answerSchema, reply.data, subject)
  if (!answer.ok) throw new RotorError(answer.code, answer.message)
  return answer as Answered<T>
}
