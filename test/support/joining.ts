/** A running domain whose issuer lets nodes join, and what a test needs around that. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type AgentHandle, joinDomain, readAgentConfig, startAgent } from '../../agent/index.ts'
import { editJson } from '../../demo/domain.ts'
import { askIssuer } from '../../src/domain/operator.ts'
import { encodeToken, type JoinToken, newTokenSecret, secretSha256 } from '../../src/enrolment/token.ts'
import { freePorts } from '../../src/local/ports.ts'
import { silentLogger } from '../../src/log.ts'
import { agentRemoved, tokenCreated, tokenRevoked, tokensListed } from '../../src/wire/enrolment.ts'
import { eventually } from './eventually.ts'
import { PATIENCE, RunningDomain } from './running-domain.ts'

export interface JoinableDomain {
  readonly domain: RunningDomain
  /** `host:port` of the join endpoint. */
  readonly address: string
}

/**
 * One server, epochs of an hour, an issuer with a join endpoint that is not started yet. `agents`: entries of issuer.json
 * besides those of the founding, which makes the users of `services` in NATS; `unnamed` are services without an entry.
 */
export async function makeJoinable(
  services: readonly string[],
  agents: readonly object[] = [],
  unnamed: readonly string[] = services,
): Promise<JoinableDomain> {
  const domain = await RunningDomain.start({ services: services.map((name) => ({ name })) })
  const [port] = await freePorts(1)
  const address = `127.0.0.1:${port}`
  const { issuerConfig } = domain.local.founded
  const config = JSON.parse(await readFile(issuerConfig, 'utf8'))
  const kept = config.agents.filter(({ name }: { name: string }) => !unnamed.includes(name))
  await editJson(issuerConfig, { agents: [...kept, ...agents], join: { listen: address } })
  return { domain, address }
}

export interface MadeToken {
  readonly text: string
  readonly token: JoinToken
}

const by = 'test'

/** As `rotor token create` does it. */
export function createToken(domain: RunningDomain, agent: string, ttl = 3_600_000): Promise<MadeToken> {
  return domain.asOperator(async ({ names, nc }) => {
    const { id, secret } = newTokenSecret()
    const request = { v: 1, op: 'create-token', id, agent, secretSha256: secretSha256(secret), ttl, by }
    const { addresses, endpoint, signers, key } = await askIssuer(
      nc,
      names.enrolSubject,
      request,
      tokenCreated,
    )
    const token = { domain: names.domain, agent, addresses, endpoint, signers, key, id, secret }
    return { token, text: encodeToken(token) }
  })
}

export const listTokens = (domain: RunningDomain) =>
  domain.asOperator(async ({ names, nc }) => {
    const { tokens } = await askIssuer(nc, names.enrolSubject, { v: 1, op: 'list-tokens' }, tokensListed)
    return tokens
  })

export const revokeToken = (domain: RunningDomain, id: string) =>
  domain.asOperator(({ names, nc }) =>
    askIssuer(nc, names.enrolSubject, { v: 1, op: 'revoke-token', id, by, reason: 'a test' }, tokenRevoked),
  )

export const removeAgent = (domain: RunningDomain, agent: string) =>
  domain.asOperator(({ names, nc }) =>
    askIssuer(
      nc,
      names.enrolSubject,
      { v: 1, op: 'remove-agent', agent, by, reason: 'a test' },
      agentRemoved,
    ),
  )

/** Where a test keeps the node of this name. */
export const nodeDir = (domain: RunningDomain, name: string): string => join(domain.local.dir, 'joined', name)

/** Joins with a token alone, in a directory of its own. Returns agent.json. */
export const joinNode = (
  domain: RunningDomain,
  token: string,
  name: string,
  patience = 10_000,
): Promise<string> => joinDomain(token, nodeDir(domain, name), { logger: silentLogger, patience })

/** Joins and runs the agent. */
export async function startJoined(domain: RunningDomain, token: string, name: string): Promise<AgentHandle> {
  const config = await readAgentConfig(await joinNode(domain, token, name))
  return startAgent({ config, logger: silentLogger, join: token })
}

/** Waits until the issuer answers operators. */
export const answering = (domain: RunningDomain) =>
  eventually(() => listTokens(domain), { timeout: PATIENCE, interval: 100 })
