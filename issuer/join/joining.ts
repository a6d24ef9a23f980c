/** The part of an issuer that lets nodes in: its join endpoint, where one is configured, and the answers to operators. */
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import type { Duration } from '../../src/time.ts'
import type { JoinAnswer, JoinRequest } from '../../src/wire/enrolment.ts'
import type { SignerStore } from '../signers.ts'
import type { Statuses } from '../statuses.ts'
import { openJoinEndpoint } from './endpoint.ts'
import { type EndpointKey, endpointKey } from './key.ts'
import type { JoinLimits } from './limits.ts'
import { NewestBundle } from './newest.ts'
import { handleEnrolment } from './operator.ts'
import { type RedeemOptions, redeem } from './redeem.ts'
import { Tokens } from './tokens.ts'

export interface JoiningOptions extends Omit<RedeemOptions, 'tokens' | 'newest'> {
  readonly signers: SignerStore
  readonly statuses: Statuses
  /** Of the key store. */
  readonly passphrase: string | undefined
  /** The control connection, at once or when there is one. */
  readonly connection: (signal: AbortSignal) => Promise<NatsConnection>
  /** Called when the agents of the domain have changed. */
  readonly changed: () => void
  readonly limits?: JoinLimits | undefined
}

export interface Joining {
  /** Answers an operator; never throws. */
  handle(nc: NatsConnection, message: Msg): Promise<void>
  close(): Promise<void>
}

/** How long a node waits for our connection to NATS before it is told to come back. */
const CONNECTION_TIME: Duration = 3_000

/** Throws ERR_CONFIG_INVALID when the endpoint can not listen, and the errors of its key. */
export async function openJoining(options: JoiningOptions): Promise<Joining> {
  const { config, signers, clock, logger } = options
  const newest = new NewestBundle(options.names, signers)
  const parts = { ...options, newest, tokens: new Tokens(options.names) }
  const bundle = async (): Promise<Uint8Array> =>
    (await newest.read(await options.connection(AbortSignal.timeout(CONNECTION_TIME)))).envelope
  const answer = async (request: JoinRequest): Promise<JoinAnswer> =>
    redeem(await options.connection(AbortSignal.timeout(CONNECTION_TIME)), request, parts)
  const { domain, keys: dir, join } = config
  let key: EndpointKey | null = null
  let close = async () => {}
  if (join !== undefined) {
    key = await endpointKey({ domain, dir, passphrase: options.passphrase }, clock.now())
    const { listen } = join
    const limits = options.limits === undefined ? {} : { limits: options.limits }
    const endpoint = await openJoinEndpoint({ listen, key, answer, bundle, clock, logger, ...limits })
    close = () => endpoint.close()
  }
  const enrolment = {
    ...parts,
    endpoint: key?.spkiSha256 ?? null,
    signers: () => signers.held.map(({ key }) => key.kid),
  }
  return { handle: (nc, message) => handleEnrolment(nc, message, enrolment), close }
}
