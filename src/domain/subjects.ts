/** Subjects as patterns: do two of them share a subject, and does a grant reach into what belongs to nats-rotor? */
import { RotorError } from '../errors.ts'
import type { DomainNames } from '../wire/names.ts'

const SUBJECT = /^[^\s.]+(\.[^\s.]+)*$/

/** True when some subject matches both patterns (`*` is one token, `>` at the end one or more). */
export function overlap(a: string, b: string): boolean {
  const [left, right] = [a.split('.'), b.split('.')]
  for (let i = 0; ; i++) {
    const [x, y] = [left[i], right[i]]
    if (x === undefined || y === undefined) return x === y
    if (x === '>' || y === '>') return true
    if (x !== y && x !== '*' && y !== '*') return false
  }
}

/** Everything of a domain that only the grants of its roles may open. */
function reserved(names: DomainNames): string[] {
  const buckets = [names.statusBucket, names.stateBucket]
  const streams = [names.bundleStream, ...buckets.map((bucket) => `KV_${bucket}`)]
  return [
    `rotor.${names.domain}.>`,
    `_INBOX.${names.domain}.>`,
    '$SYS.>',
    ...buckets.map((bucket) => `$KV.${bucket}.>`),
    ...streams.flatMap((stream) => [
      ...['*', 'MSG.*', 'PEER.*', 'LEADER.*'].map((verb) => `$JS.API.STREAM.${verb}.${stream}`),
      `$JS.API.DIRECT.GET.${stream}`,
      `$JS.API.DIRECT.GET.${stream}.>`,
      `$JS.API.CONSUMER.*.${stream}`,
      ...['*', 'DURABLE.*', 'MSG.*', 'LEADER.*'].map((verb) => `$JS.API.CONSUMER.${verb}.${stream}.>`),
      `$JS.ACK.${stream}.>`,
      `$JS.FC.${stream}.>`,
    ]),
  ]
}

/** Throws ERR_CONFIG_INVALID, naming `key`, when one of the subjects is none or reaches into nats-rotor's own. */
export function assertApart(names: DomainNames, subjects: readonly string[], key: string): void {
  const closed = reserved(names)
  const problems = subjects.flatMap((subject) => {
    if (!SUBJECT.test(subject)) return [`expected a subject, found ${JSON.stringify(subject)}`]
    const reached = closed.find((pattern) => overlap(pattern, subject))
    return reached === undefined ? [] : [`"${subject}" reaches into "${reached}", which is nats-rotor's own`]
  })
  if (problems.length > 0) throw new RotorError('ERR_CONFIG_INVALID', `${key}: ${problems.join('; ')}`)
}
