/**
 * How far is our clock from that of the issuer that leads? Asked from time to time, and soon after our clock was set or the
 * machine slept: certificates and bundles are judged by dates, and the issuer refuses to go on when a node would judge them
 * wrongly.
 */
import type { NatsConnection } from '@nats-io/transport-node'
import { type ClockReading, clockReading, formatReading, surelyOff } from '../src/clock-reading.ts'
import type { Logger } from '../src/log.ts'
import { type Clock, type Duration, sleep, tickOf } from '../src/time.ts'
import type { DomainNames } from '../src/wire/names.ts'
import { decodeRecord } from '../src/wire/record.ts'
import { timeAnswer } from '../src/wire/requests.ts'

export interface ClockWatchOptions {
  readonly connection: (signal: AbortSignal) => Promise<NatsConnection>
  readonly names: DomainNames
  /** Between two questions, milliseconds. */
  readonly every: Duration
  /** Certificates are back-dated by this, milliseconds: a clock that is further off is told. */
  readonly lead: Duration
  readonly clock: Clock
  readonly logger: Logger
  readonly told: (reading: ClockReading) => void
}

/** How long one answer may take, milliseconds: a late one says little. */
const ANSWER: Duration = 2_000
/** Questions at a time, until one is answered this soon, milliseconds. */
const TRIES = 3
const SOON: Duration = 10
/** How often our two clocks are compared, and by how much they may part before we ask again, milliseconds. */
const LOOK: Duration = 1_000
const STEP: Duration = 100
/** Smaller changes of offset or bound are not told, milliseconds: each would be a write. */
const NEWS: Duration = 20

/** Measures until `signal` aborts. Without an answer what was told last stays. */
export async function watchClock(options: ClockWatchOptions, signal: AbortSignal): Promise<void> {
  const { clock, every, lead, logger, told } = options
  let known: ClockReading | null = null
  while (!signal.aborted) {
    const parted = apart(clock)
    const reading = await measure(options, signal).catch((cause) => {
      logger.debug({ err: String(cause) }, 'the issuer did not tell its time')
      return null
    })
    if (reading !== null && isNews(reading, known)) {
      const wasOff = known !== null && surelyOff(known) >= lead
      const isOff = surelyOff(reading) >= lead
      known = reading
      told(reading)
      if (isOff && !wasOff)
        logger.warn(
          { code: 'ERR_CLOCK_SKEW', ...reading },
          `the clock of this node is off by ${formatReading(reading)}`,
        )
      if (wasOff && !isOff) logger.info({ ...reading }, 'the clock of this node is right again')
    }
    await untilDue(parted, every, clock, signal)
  }
}

/** The reading of the quickest answer. Throws when there is none. */
async function measure(
  { connection, names, clock }: ClockWatchOptions,
  signal: AbortSignal,
): Promise<ClockReading> {
  const nc = await connection(signal)
  let best: ClockReading | null = null
  for (let tries = 0; tries < TRIES && (best === null || best.boundMs > SOON); tries += 1) {
    const asked = tickOf(clock)
    const message = await nc.request(names.timeSubject, '', { timeout: ANSWER })
    const heard = tickOf(clock)
    const { serverTime } = decodeRecord(timeAnswer, message.data, `answer on ${names.timeSubject}`)
    const reading = clockReading(asked, heard, Date.parse(serverTime))
    if (best === null || reading.boundMs < best.boundMs) best = reading
  }
  if (best === null) throw new TypeError('no question was asked')
  return best
}

const isNews = (reading: ClockReading, known: ClockReading | null): boolean =>
  known === null ||
  Math.abs(reading.offsetMs - known.offsetMs) > NEWS ||
  Math.abs(reading.boundMs - known.boundMs) > NEWS

/** Grows when the clock is set forward or the machine sleeps, shrinks when it is set back. */
const apart = (clock: Clock): number => {
  const { wall, mono } = tickOf(clock)
  return wall - mono
}

/** Returns after `every`, or soon after our clocks have parted. */
async function untilDue(parted: number, every: Duration, clock: Clock, signal: AbortSignal): Promise<void> {
  const end = performance.now() + every
  while (!signal.aborted && performance.now() < end && Math.abs(apart(clock) - parted) < STEP) {
    await sleep(Math.min(LOOK, end - performance.now()), signal).catch(() => {})
  }
}
