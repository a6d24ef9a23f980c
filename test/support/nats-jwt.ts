/** Credentials of a user for a server in operator mode, made on the spot (JWTs signed with nkeys, as `nsc` makes them). */
import { randomUUID } from 'node:crypto'
import { nkeys } from '@nats-io/transport-node'

export interface OperatorMode {
  /** Lines for the server's configuration. */
  readonly config: string
  /** Text of the user's credentials file. */
  readonly creds: string
  /** Public key of the user. */
  readonly user: string
}

export function operatorMode(): OperatorMode {
  const [operator, account, user] = [nkeys.createOperator(), nkeys.createAccount(), nkeys.createUser()]
  const limits = { subs: -1, data: -1, payload: -1 }
  const accountJwt = jwt(operator, account, 'account', {
    limits: { ...limits, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 },
  })
  const userJwt = jwt(account, user, 'user', { pub: {}, sub: {}, ...limits })
  const seed = Buffer.from(user.getSeed()).toString()
  return {
    config: `operator: "${jwt(operator, operator, 'operator', {})}"
resolver: MEMORY
resolver_preload: { ${account.getPublicKey()}: "${accountJwt}" }`,
    creds: `${block('NATS USER JWT', userJwt)}\n${block('USER NKEY SEED', seed)}`,
    user: user.getPublicKey(),
  }
}

const block = (name: string, text: string): string =>
  `-----BEGIN ${name}-----\n${text}\n------END ${name}------\n`

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

type KeyPair = ReturnType<typeof nkeys.createUser>

function jwt(issuer: KeyPair, subject: KeyPair, type: string, nats: object): string {
  const head = part({ typ: 'JWT', alg: 'ed25519-nkey' })
  const claims = part({
    jti: randomUUID(),
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name: type,
    nats: { ...nats, type, version: 2 },
  })
  const signature = issuer.sign(Buffer.from(`${head}.${claims}`))
  return `${head}.${claims}.${Buffer.from(signature).toString('base64url')}`
}
