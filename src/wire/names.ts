/** Every subject, stream, bucket and key of a trust domain, made in one place. */
import { RotorError } from '../errors.ts'

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** True for a trust domain or agent name: a DNS label (RFC 1123), so it is also a NATS token and a SPIFFE segment. */
export const isName = (text: string): boolean => NAME.test(text)

export function assertName(text: string, key: string): void {
  if (!isName(text)) {
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      `${key}: expected lower-case letters, digits and "-" (at most 63), found ${JSON.stringify(text)}`,
    )
  }
}

export interface DomainNames {
  readonly domain: string
  readonly bundleStream: string
  readonly bundleSubject: string
  /** Key-value buckets. */
  readonly statusBucket: string
  readonly stateBucket: string
  /** Subject an agent publishes its status to: its key in the status bucket. */
  statusSubject(agent: string): string
  signSubject(agent: string): string
  turnSubject(agent: string): string
  /** What time is it where the rotation is decided? */
  readonly timeSubject: string
  readonly orderSubject: string
  /** Join tokens and removed agents: requests of an operator. */
  readonly enrolSubject: string
  /** Queue group of all issuers. */
  readonly issuers: string
  consumer(agent: string): string
  /** First tokens of all replies to this agent: permissions name it. */
  inbox(agent: string): string
  /** Every inbox of the domain: who answers requests may publish there. */
  readonly inboxes: string
  messageId(version: number): string
  /** SPIFFE ID, the one name of a node in its certificates and in the accounts block. */
  spiffeId(agent: string): string
}

export function domainNames(domain: string): DomainNames {
  assertName(domain, 'domain')
  return {
    domain,
    bundleStream: `ROTOR_${domain}`,
    bundleSubject: `rotor.${domain}.bundle`,
    statusBucket: `rotor-${domain}-status`,
    stateBucket: `rotor-${domain}-state`,
    statusSubject: (agent) => `$KV.rotor-${domain}-status.${agent}`,
    signSubject: (agent) => `rotor.${domain}.sign.${agent}`,
    turnSubject: (agent) => `rotor.${domain}.turn.${agent}`,
    timeSubject: `rotor.${domain}.time`,
    orderSubject: `rotor.${domain}.order`,
    enrolSubject: `rotor.${domain}.enrol`,
    issuers: 'issuers',
    consumer: (agent) => `agent-${agent}`,
    inbox: (agent) => `_INBOX.${domain}.${agent}`,
    inboxes: `_INBOX.${domain}.>`,
    messageId: (version) => `${domain}-${version}`,
    spiffeId: (agent) => `spiffe://${domain}/${agent}`,
  }
}
