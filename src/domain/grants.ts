/**
 * What may each role publish and subscribe to, and nothing more? The subjects nats.js 3.4 uses for what we do, found
 * with real servers of 2.9 and 2.15; `test/integration/permissions.test.ts` tries every one, and what they exclude.
 */
import type { DomainNames } from '../wire/names.ts'

export interface Grants {
  readonly publish: readonly string[]
  readonly subscribe: readonly string[]
  /** May it answer requests of this domain? */
  readonly answers: boolean
}

/** The subjects nats-rotor itself needs for a user of this role. */
export function rotorGrants(
  names: DomainNames,
  { name, role }: { readonly name: string; readonly role: 'server' | 'service' | 'issuer' },
): Grants {
  const node = nodeGrants(names, name)
  const subscribe = [`${names.inbox(name)}.>`]
  if (role === 'service') return { publish: node, subscribe, answers: false }
  if (role === 'server') return { publish: [...node, ...SERVER_AGENT], subscribe, answers: false }
  return {
    publish: [...node, ...issuerGrants(names)],
    subscribe: [
      ...subscribe,
      names.signSubject('*'),
      names.turnSubject('*'),
      names.timeSubject,
      names.orderSubject,
      names.enrolSubject,
    ],
    answers: true,
  }
}

/** Every agent: its own consumer of the bundle stream, its own requests, its own status. */
function nodeGrants(names: DomainNames, agent: string): string[] {
  const consumer = `${names.bundleStream}.${names.consumer(agent)}`
  return [
    // the filter subject is a part of the create subject, so it can not read anything else of the stream
    `$JS.API.CONSUMER.CREATE.${consumer}.${names.bundleSubject}`,
    `$JS.API.CONSUMER.INFO.${consumer}`,
    // its only copy may be on a server that is away
    `$JS.API.CONSUMER.DELETE.${consumer}`,
    `$JS.API.CONSUMER.MSG.NEXT.${consumer}`,
    `$JS.ACK.${consumer}.>`,
    names.signSubject(agent),
    names.turnSubject(agent),
    names.timeSubject,
    names.statusSubject(agent),
  ]
}

/**
 * An agent beside a nats-server asks it to reload. The id of a server is new at each start, so it can not stand in
 * the permission: an agent of one server could reload another one, which changes nothing there.
 */
const SERVER_AGENT = ['$SYS.REQ.SERVER.PING', '$SYS.REQ.SERVER.*.VARZ', '$SYS.REQ.SERVER.*.RELOAD']

/**
 * Who is connected to the servers, and how one of them is asked to leave. An issuer signs the certificates of all nodes,
 * so closing a connection is nothing that it could not bring about anyway; nobody else may.
 */
const CENSUS = ['CONNZ', 'ROUTEZ', 'GATEWAYZ', 'LEAFZ', 'LDM', 'KICK']

/** JSZ: names and settings of streams and consumers of every account, no message; `rotor doctor` judges them. */
function issuerGrants(names: DomainNames): string[] {
  const buckets = [names.statusBucket, names.stateBucket]
  return [
    names.bundleSubject,
    names.orderSubject,
    names.enrolSubject,
    ...buckets.map((bucket) => `$KV.${bucket}.>`),
    '$JS.API.INFO',
    ...streamGrants([names.bundleStream, ...buckets.map((bucket) => `KV_${bucket}`)]),
    '$SYS.REQ.SERVER.PING',
    '$SYS.REQ.SERVER.*.VARZ',
    '$SYS.REQ.SERVER.*.JSZ',
    ...CENSUS.map((what) => `$SYS.REQ.SERVER.*.${what}`),
  ]
}

/** Create, update, read and consume these streams, but neither delete nor purge them or their messages. */
export const streamGrants = (streams: readonly string[]): string[] =>
  streams.flatMap((stream) => [
    ...['CREATE', 'UPDATE', 'INFO', 'MSG.GET'].map((verb) => `$JS.API.STREAM.${verb}.${stream}`),
    `$JS.API.DIRECT.GET.${stream}`,
    `$JS.API.DIRECT.GET.${stream}.>`,
    ...['CREATE', 'LIST', 'NAMES'].map((verb) => `$JS.API.CONSUMER.${verb}.${stream}`),
    ...['CREATE', 'DURABLE.CREATE', 'INFO', 'MSG.NEXT', 'DELETE'].map(
      (verb) => `$JS.API.CONSUMER.${verb}.${stream}.>`,
    ),
    `$JS.ACK.${stream}.>`,
    `$JS.FC.${stream}.>`,
  ])
