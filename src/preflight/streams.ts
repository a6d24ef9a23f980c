/**
 * Who would notice a rotation on JetStream? A client that is moved by handoff misses nothing (design 9). One that has to
 * reconnect, in another language or where a handoff is given up, is away for up to three seconds.
 */
import { type Duration, formatDuration } from '../time.ts'
import type { ConsumerFacts, Facts, StreamFacts } from './facts.ts'
import { type Finding, type FindingId, finding } from './findings.ts'

/** A reconnect of nats.js waits 2 s and up to 1 s of jitter, twice when the first dial fails (nats-facts 5.5). */
const AWAY: Duration = 5_000

export const judgeStreams = ({ streams, servers }: Facts): Finding[] =>
  streams.flatMap((stream) => [
    ...judgeStream(stream, servers?.length ?? 1),
    ...stream.consumers.flatMap((consumer) =>
      judgeConsumer(consumer).map(([id, found]) =>
        finding(id, 'consumer', `${stream.name}/${consumer.name}`, found),
      ),
    ),
  ])

const judgeStream = ({ name, storage, replicas }: StreamFacts, servers: number): Finding[] =>
  servers > 1 && storage === 'memory' && replicas === 1
    ? [finding('stream-one-copy', 'stream', name, 'memory storage, one replica')]
    : []

function judgeConsumer(consumer: ConsumerFacts): [FindingId, string][] {
  const { durable, push, flowControl, ackPolicy, ackWait, maxDeliver, inactiveThreshold } = consumer
  const found: [FindingId, string][] = []
  if (ackPolicy === 'none') {
    // an ordered consumer of our client begins again behind the last message it has
    if (!(push && flowControl)) found.push(['consumer-loses', 'ack_policy none'])
  } else if (maxDeliver === 1) found.push(['consumer-loses', 'max_deliver 1'])
  else if (ackWait < AWAY) found.push(['consumer-redelivers', `ack_wait ${formatDuration(ackWait)}`])
  if (inactiveThreshold > 0 && inactiveThreshold < AWAY) {
    const kind = durable ? 'durable' : 'ephemeral'
    found.push(['consumer-vanishes', `${kind}, inactive_threshold ${formatDuration(inactiveThreshold)}`])
  }
  if (push && !flowControl) found.push(['consumer-without-flow-control', `a push consumer`])
  return found
}
