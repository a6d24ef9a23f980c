/** A node joins: what a token gives it is the newest bundle and a leaf of its signer. */
import { caFile, payloadDigest } from '../../../src/bundle/payload.ts'
import { leafLifetime, type Schedule } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import { bundlePayload } from '../../../src/wire/bundle.ts'
import type { AgentMachine } from './agent-machine.ts'
import type { Broker } from './broker.ts'
import { DOMAIN, type KeyStore } from './key-store.ts'
import { readLeaf, writeLeaf } from './leaf.ts'
import { openEnvelope } from './remembered/envelope.ts'
import { decodeRecord } from './remembered/record.ts'

export interface EnrolmentParts {
  readonly broker: Broker
  readonly keys: KeyStore
  readonly schedule: Schedule
  readonly now: Instant
  readonly serial: number
}

/** False when nobody can sign now. */
export function enrol(
  machine: AgentMachine,
  { broker, keys, schedule, now, serial }: EnrolmentParts,
): boolean {
  const message = broker.stream.at(-1)
  if (message === undefined) return false
  const text = Buffer.from(openEnvelope(message.bytes).payload).toString()
  const payload = decodeRecord(bundlePayload, text, 'newest bundle')
  const key = keys.get(payload.epoch)
  if (key === undefined || key.notAfter <= now + schedule.lead) return false
  const certificate = writeLeaf({
    of: machine.name,
    serial,
    epoch: key.epoch,
    issuer: key.sha256,
    notBefore: Math.max(key.notBefore, now - schedule.lead),
    notAfter: Math.min(key.notAfter, now + leafLifetime(schedule)),
  })
  const digest = payloadDigest(text)
  const { version, epoch, signers, roots } = payload
  machine.disk.enrol(
    {
      v: 1,
      domain: DOMAIN,
      agent: machine.name,
      highest: { version, digest },
      signers,
      roots,
      envelope: Buffer.from(message.bytes).toString('utf8'),
      proven: null,
    },
    { key: `key of ${machine.name}`, certificate, ca: caFile(payload) },
    { version, digest, epoch },
    now,
  )
  return true
}

/** Has this node a leaf with which it could ask for the next one? `payload`: of the newest state. */
export function canFollow(machine: AgentMachine, payload: string, now: Instant): boolean {
  const readable = machine.disk.readable()
  if (readable === null) return false
  const { issuer, notAfter } = readLeaf(readable.stored.material.certificate)
  const { authorities } = decodeRecord(bundlePayload, payload, 'newest state')
  return notAfter > now && authorities.some(({ sha256 }) => sha256 === issuer)
}
