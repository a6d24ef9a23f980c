/**
 * One service of the soak: library mode, one connection from its start to its end. It publishes numbered messages, core and
 * on JetStream, asks its neighbour, counts what its neighbour publishes, and tells all of it on stdout as JSON lines: it may
 * be killed at any moment, so a message from JetStream is told before it is acknowledged (a pipe is written at once).
 *
 * Lines on stdin: `publish`, `stop-publishing`, `mark N` (answered when every request so far has its answer), `busy MS` (the
 * thread does nothing else), `plant` (a number that is never sent), `stop`.
 */
import { createInterface } from 'node:readline'
import { type Consumer, jetstream } from '@nats-io/jetstream'
import type { NatsConnection } from '@nats-io/transport-node'
import { readAgentConfig, startAgent } from '../../agent/index.ts'
import { Requests } from '../../bench/load/ledger.ts'
import { keepPace } from '../../bench/load/pace.ts'
import { decodePayload, encodePayload } from '../../bench/load/payload.ts'
import { connect } from '../../src/connection/connect.ts'
import { makeLogger } from '../../src/log.ts'
import { Backoff } from '../../src/tasks.ts'
import { formatInstant, sleep } from '../../src/time.ts'
import { domainNames } from '../../src/wire/names.ts'
import { consumerOf, type ServiceSettings, SOAK_STREAM, subjectsOf } from './service.ts'

const TELL_EVERY = 100
const REQUESTS_PER_SECOND = 5
const REQUEST_TIMEOUT = 5_000
/** JetStream messages on their way to an acknowledgement. */
const MAX_PENDING = 256

const settings: ServiceSettings = JSON.parse(process.argv[2] ?? '{}')
const { life, rate } = settings
const config = await readAgentConfig(settings.config)
const logger = makeLogger({ name: config.agent })
const own = subjectsOf(config.agent)
const neighbour = subjectsOf(settings.neighbour)

class Service {
  readonly #nc: NatsConnection
  readonly #requests = new Requests()
  readonly #stop = new AbortController()
  readonly #pending = new Set<Promise<void>>()
  #core = 0
  #stored = 0
  /** Since the last telling. */
  #received: [life: number, number: number][] = []
  #acknowledged: number[] = []
  #publishing = false
  #asking = true

  constructor(nc: NatsConnection) {
    this.#nc = nc
  }

  /** Returns when it was stopped, and everything under way has ended. */
  async run(consumer: Consumer): Promise<void> {
    const { signal } = this.#stop
    const paced = [
      { rate: rate / 2, work: () => this.#publish() },
      { rate: rate / 2, work: () => this.#store() },
      { rate: REQUESTS_PER_SECOND, work: () => this.#ask() },
      { rate: 1000 / TELL_EVERY, work: () => this.tell() },
    ]
    await Promise.all([keepPace(paced, signal), this.#read(consumer, signal)])
    await Promise.all([this.#drained(), this.#requests.settled()])
    this.tell()
  }

  listen(): void {
    this.#nc.subscribe(neighbour.core, {
      callback: (error, message) => {
        const numbered = error === null ? decodePayload(message.data) : null
        if (numbered !== null) this.#received.push([numbered.publisher, numbered.sequence])
      },
    })
    this.#nc.subscribe(own.echo, {
      callback: (error, message) => {
        if (error === null) message.respond(message.data)
      },
    })
  }

  publish(): void {
    this.#publishing = true
  }

  stopPublishing(): void {
    this.#publishing = false
  }

  plant(): void {
    this.#core += 1
  }

  stop(): void {
    this.stopPublishing()
    this.#stop.abort()
  }

  tell(): void {
    say({ type: 'told', server: this.#nc.info?.server_name, ...this.#told(), received: this.#received })
    if (this.#acknowledged.length > 0) say({ type: 'acknowledged', numbers: this.#acknowledged })
    this.#received = []
    this.#acknowledged = []
  }

  async mark(number: number): Promise<void> {
    this.#asking = false
    await Promise.all([this.#requests.settled(), this.#publishing ? null : this.#drained()])
    this.tell()
    say({ type: 'marked', mark: number, ...this.#told(), reasons: this.#requests.counts().reasons })
    this.#asking = true
  }

  async #drained(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending)
  }

  #told() {
    const { sent, failed } = this.#requests.counts()
    return { core: this.#core, requests: { sent, failed } }
  }

  #publish(): void {
    if (this.#publishing) this.#nc.publish(own.core, encodePayload(life, this.#core++))
  }

  #store(): void {
    if (!this.#publishing || this.#pending.size >= MAX_PENDING) return
    const number = this.#stored++
    const done = this.#storeOne(number).finally(() => this.#pending.delete(done))
    this.#pending.add(done)
  }

  /** Published until it is acknowledged; the message id makes the repetition harmless. */
  async #storeOne(number: number): Promise<void> {
    const js = jetstream(this.#nc, { timeout: 3000 })
    const backoff = new Backoff({ base: 50, max: 1000 })
    for (;;) {
      try {
        const msgID = `${own.jetstream}-${life}-${number}`
        await js.publish(own.jetstream, encodePayload(life, number), { msgID })
        this.#acknowledged.push(number)
        return
      } catch {
        await backoff.wait()
      }
    }
  }

  #ask(): void {
    if (!this.#publishing || !this.#asking) return
    this.#requests.start(async (sequence) => {
      const body = encodePayload(life, sequence)
      const answer = await this.#nc.request(neighbour.echo, body, { timeout: REQUEST_TIMEOUT })
      return decodePayload(answer.data)?.sequence === sequence
    })
  }

  async #read(consumer: Consumer, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        // whole batches: when it ends, nothing was delivered that is not acknowledged
        for await (const message of await consumer.fetch({ max_messages: 100, expires: 1_000 })) {
          const numbered = decodePayload(message.data)
          const numbers = [numbered?.publisher ?? -1, numbered?.sequence ?? -1, message.seq]
          say({ type: 'stored', numbers })
          message.ack()
        }
      } catch {
        await sleep(50)
      }
    }
  }
}

function say(event: object): void {
  process.stdout.write(`${JSON.stringify({ node: config.agent, life, ...event })}\n`)
}

/** Nothing else runs meanwhile, as in a service that computes. */
function busy(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
  say({ type: 'was-busy' })
}

await using cleanup = new AsyncDisposableStack()
const agent = cleanup.use(
  await startAgent({
    config,
    logger,
    onEvent: (event) => say({ ...event, at: formatInstant(Date.now()) }),
  }),
)
const nc = await connect({
  servers: config.servers,
  identity: agent.identity,
  name: config.agent,
  inboxPrefix: domainNames(config.domain).inbox(config.agent),
  handoff: { logger },
})
cleanup.defer(() => nc.drain().catch(() => nc.close()))
const service = new Service(nc)
service.listen()
await nc.flush()
const consumer = await jetstream(nc, { timeout: 3000 }).consumers.get(SOAK_STREAM, consumerOf(config.agent))
const running = service.run(consumer)
say({ type: 'started' })

const lines = createInterface({ input: process.stdin })
process.once('SIGTERM', () => lines.close())
for await (const line of lines) {
  const [command = '', argument] = line.split(' ')
  if (command === 'stop') break
  if (command === 'publish') service.publish()
  if (command === 'stop-publishing') service.stopPublishing()
  if (command === 'plant') service.plant()
  if (command === 'busy') busy(Number(argument))
  if (command === 'mark') void service.mark(Number(argument))
}
process.stdin.destroy()
service.stop()
await running
