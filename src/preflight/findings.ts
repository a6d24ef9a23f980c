/**
 * What can a preflight find? One table of ids: how bad it is, what it means, what to do. The ids are stable: scripts accept
 * them by name. `docs/preflight.md` lists exactly these; a test compares the two.
 */

/** error: a rotation would hold or break something. warning: it may. info: worth knowing. */
export type Severity = 'error' | 'warning' | 'info'

interface Entry {
  readonly severity: Severity
  readonly means: string
  readonly action: string
}

const error = (means: string, action: string): Entry => ({ severity: 'error', means, action })
const warning = (means: string, action: string): Entry => ({ severity: 'warning', means, action })
const info = (means: string, action: string): Entry => ({ severity: 'info', means, action })

const TABLE = {
  // the rotation
  'no-leader': error('no issuer leads', 'start an issuer; its log says why it does not lead'),
  'issuer-problem': error('the issuer that leads can not work', 'do what the code in the message asks for'),
  paused: warning('the rotation is stopped by an operator', '`rotor resume --reason TEXT`'),
  tainted: warning(
    'an authority is tainted and it is not yet proven that nobody trusts it',
    'look at `rotor status`: it names who is waited for',
  ),
  'rotation-under-way': info(
    'a rotation or an order is not finished',
    'wait for it: `rotor status` says for whom it waits',
  ),
  'rotation-holds': warning(
    'the rotation under way waits for this node',
    'mend the node, remove it, or go on with `rotor rotate --force --reason TEXT`',
  ),

  // agents
  'agent-never-reported': error(
    'this agent has never said what it holds',
    'start it, or remove it with `rotor agent remove`',
  ),
  'agent-silent': error(
    'this agent has said nothing for three minutes',
    'look whether it runs and reaches NATS; remove it when the node is gone',
  ),
  'agent-not-connected': error(
    'this agent has no connection to any server of the cluster',
    'start it; its last report is of an agent that runs no more',
  ),
  'agent-rolled-back': error(
    'the last bundle was put back on this node',
    'mend the reason in the message; the node tries again with the next bundle',
  ),
  'agent-behind': warning(
    'this agent has not applied the newest bundle',
    'wait a moment, then look at its log',
  ),
  'agent-other-bundle': error(
    'this agent holds a bundle that we did not publish',
    'treat it as an attack until explained: compare the histories',
  ),
  'agent-clock-off': error(
    'the clock of this node is off by more than the lead',
    'set the clock (NTP): certificates of a new authority would not be valid there',
  ),
  'leaf-ended': error(
    'the certificate of this node has ended',
    'give the node a new join token: `rotor token create`',
  ),
  'leaf-overdue': warning(
    'the certificate of this node should have been renewed long ago',
    'look at the log of its agent, and whether an issuer answers it',
  ),

  // servers
  'server-silent': error(
    'this nats-server does not answer, so it can be neither changed nor counted',
    'start the server or mend its route; remove its agent when it is gone',
  ),
  'server-without-agent': error(
    'this nats-server has no agent, so nobody would give it a new certificate',
    'enrol an agent for it, under the name of the server',
  ),
  'listener-unreachable': error(
    'this listener can not be dialled from here, so a rotation can not be proven on it',
    'open the way from the issuer, or correct the address in issuer.json',
  ),
  'listener-untrusted': error(
    'this listener serves a certificate that the domain does not trust',
    'look whose certificate it is, and whether its files are those of the agent',
  ),
  'listener-refuses': error(
    'this listener refuses the certificate of the issuer',
    'look at `ca_file` of that listener: it has to be the ca.pem of the agent',
  ),
  'leaf-not-for-clients': error(
    'the certificate of a listener that servers dial each other by is not for clients (clientAuth)',
    'give the node a certificate for both usages: routes, gateways and leaf nodes need both',
  ),
  'config-edited': warning(
    'the configuration of this nats-server was changed and not loaded: the reload of a rotation would load it',
    'load it now (`nats-server --signal reload`), or take the edit back',
  ),
  'config-refused': error(
    'the configuration of this nats-server would be refused at a reload',
    'mend it: the message has the words of nats-server',
  ),
  'config-not-seen': info(
    'nobody can say whether the configuration of this nats-server was edited',
    'name `configFile` in the target of its agent (and `binary`, so that it is tried, too)',
  ),
  'operator-clients': warning(
    'clients with a JWT and an nkey are disconnected by each reload (nats-server #8606)',
    'update nats-server; until then expect one reconnect of each such client',
  ),
  'server-connections-full': error(
    'this nats-server takes no second connection for a handoff (`max_connections`)',
    'raise `max_connections`; a handoff needs one more for a moment',
  ),
  'server-connections-tight': warning(
    'this nats-server could not take a second connection of every client at once (`max_connections`)',
    'raise `max_connections` to twice the usual number; until then handoffs wait for each other',
  ),
  'account-connections-full': error(
    'no further connection was taken in the account of the issuer',
    'raise `max_connections` of the account: each handoff needs one more for a moment',
  ),

  // streams and consumers
  'consumer-loses': warning(
    'a client of this consumer that reconnects loses what was on its way (no acks, or max_deliver 1)',
    'move the client by handoff (the library), or allow a second delivery',
  ),
  'consumer-redelivers': warning(
    'a client of this consumer that reconnects gets messages twice: ack_wait is shorter than a reconnect',
    'raise ack_wait to 5 s or more, or move the client by handoff (the library)',
  ),
  'consumer-vanishes': warning(
    'this consumer is deleted when its client is away for as long as a reconnect takes',
    'raise inactive_threshold to 5 s or more, or move the client by handoff (the library)',
  ),
  'consumer-without-flow-control': info(
    'a push consumer without flow control can fill the queue of a handoff, which is then given up and tried again',
    'turn flow control on, or use a pull consumer',
  ),
  'stream-one-copy': info(
    'this stream is in memory and on one server: a rotation restarts no server, but any restart empties it',
    'give it three replicas or file storage if that matters',
  ),

  // what the rotation needs to last
  'signer-ends': error(
    'the signing authority ends before a rotation could be finished in order',
    'find out why no rotation went through; `rotor status` says for whom it waits',
  ),
  'signer-short': warning(
    'the signing authority has so little left that a rotation goes on without stragglers',
    'mend stragglers now: whoever is not ready is left behind',
  ),
  'bundle-ended': error(
    'the newest bundle has expired: agents that start now refuse it',
    'find out why the issuer publishes no new one',
  ),
  'bundle-stale': warning(
    'the newest bundle should have been published again already',
    'find out why the issuer publishes no new one',
  ),
  'root-too-short': error(
    'the root ends before an authority that is made now',
    '`rotor root rotate` now, before the next authority',
  ),
  'root-ends': warning(
    'the root ends soon',
    '`rotor root rotate`: a change takes as long as the authorities under the old root last',
  ),

  // the key store
  'keys-unusable': error(
    'the key store can not be opened, or the engine does not answer',
    'do what the code in the message asks for',
  ),
  'signer-key-missing': error(
    'the key store has no key of the authority that signs',
    'bring back the key store from a backup; the next rotation replaces the authority otherwise',
  ),
  'root-key-missing': error(
    'the key store has no key of the root, so no authority can be made',
    'bring back the key store from a backup, or the root into the engine',
  ),
  'history-broken': error(
    'the kept bundles are not a whole chain up to the newest one',
    'bring back `keys/bundles` from a backup: an issuer that loses the stream goes on from it',
  ),
  'key-readable': error(
    'a private key or passphrase can be read by others',
    '`chmod 600` the file; if strangers had access, taint the authority or replace the node',
  ),
  'disk-full': error(
    'there is almost no room left for the files of a rotation',
    'make room: a bundle or generation that can not be written is put back',
  ),
  'disk-low': warning('there is little room left on this file system', 'make room before it is full'),

  'not-seen': info(
    'a check could not be made',
    'the message says what was in the way: often a grant that is younger than this accounts.conf',
  ),
} as const satisfies Readonly<Record<string, Entry>>

export type FindingId = keyof typeof TABLE
export const FINDINGS: Readonly<Record<FindingId, Entry>> = TABLE

export type SubjectKind =
  | 'domain'
  | 'agent'
  | 'server'
  | 'listener'
  | 'consumer'
  | 'stream'
  | 'authority'
  | 'root'
  | 'file'

export interface Finding {
  readonly id: FindingId
  readonly severity: Severity
  /** Which one: a node, `nats-1 cluster 10.0.0.1:6222`, `ACCOUNT/STREAM/CONSUMER`, a path. */
  readonly subject: { readonly kind: SubjectKind; readonly name: string }
  /** What was found, in words. */
  readonly found: string
  /** What to do. */
  readonly action: string
}

export function finding(id: FindingId, kind: SubjectKind, name: string, found: string): Finding {
  const { severity, action } = FINDINGS[id]
  return { id, severity, subject: { kind, name }, found, action }
}

const ORDER: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 }
/** More of one kind are counted, so that a report stays readable. */
const TOLD = 20

/** The worst first; of one id at most twenty, the others counted in one more. */
export function inOrder(findings: readonly Finding[]): Finding[] {
  const byId = Map.groupBy(findings, ({ id }) => id)
  const kept = [...byId].flatMap(([id, all]) => {
    const rest = all.slice(TOLD)
    const [first] = rest
    if (first === undefined) return all
    return [
      ...all.slice(0, TOLD),
      finding(id, first.subject.kind, `${rest.length} more`, 'the same of others'),
    ]
  })
  return kept.sort((a, b) => ORDER[a.severity] - ORDER[b.severity])
}
