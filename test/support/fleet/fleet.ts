/**
 * One run of a whole domain in virtual time: real agents and real issuers on simulated machines, a time of trouble,
 * then a time in which all is repaired and the domain has to come back. The seed is all the chance there is.
 */
import { epochStart, makeSchedule } from '../../../src/schedule.ts'
import type { Instant } from '../../../src/time.ts'
import { Random } from '../random.ts'
import { type Domain, FIRST_EPOCH, found } from './founding.ts'
import { type FleetOptions, type FleetReport, SimulationFailure } from './options.ts'
import type { People } from './people.ts'
import { Timeline } from './timeline.ts'
import { makeTrouble } from './trouble.ts'
import { missing } from './well.ts'

export { SimulationFailure } from './options.ts'

/** Runs one seed. Throws SimulationFailure when a promise is broken at any step. */
export async function runFleet(options: FleetOptions): Promise<FleetReport> {
  const random = new Random(options.seed)
  const schedule = makeSchedule({ epochDuration: random.pick([12_000, 16_000, 20_000, 30_000]) })
  const start = epochStart(schedule, FIRST_EPOCH) + random.int(0, schedule.epochDuration)
  const timeline = new Timeline(start, random.fork())
  const { domain, people } = await found(options, schedule, timeline, random)
  const { agents, issuers, promises } = domain
  try {
    for (const machine of [...agents, ...issuers]) machine.start()
    await live(domain, people, random, options.epochs ?? random.int(1, 3))
    await promises.checkHistory()
  } catch (cause) {
    throw new SimulationFailure(options, timeline.told, cause)
  } finally {
    // so that nothing of this run is left
    for (const { process } of [...agents, ...issuers]) process?.kill()
  }
  return report(domain, people, start)
}

/** Trouble for so many epochs, then repair, then everything has to be well. */
async function live(domain: Domain, people: People, random: Random, epochs: number): Promise<void> {
  const { schedule, timeline, agents, promises } = domain
  const { epochDuration } = schedule
  const run = (ms: number) => timeline.run(timeline.now + ms, () => promises.check())
  const mean = (random.pick([1_000, 3_000, 8_000]) * epochDuration) / 20_000
  const stop = makeTrouble({ ...domain, people, random: random.fork() }, mean)
  await run(epochs * epochDuration)
  stop()
  await run(1.2 * epochDuration) // whoever was stopped goes on by then
  people.repair()
  const longest = 12 * epochDuration
  for (let waited = 0; ; waited += epochDuration / 4) {
    const still = missing(promises.state, agents, schedule, timeline.now)
    if (still === null) return
    if (waited >= longest) throw new Error(`L1: all is repaired, and still ${still}`)
    people.enrolWhoCanNotFollow()
    if (promises.state?.paused != null) people.order('resume')
    await run(epochDuration / 4)
  }
}

function report({ timeline, promises, agents }: Domain, { forged }: People, start: Instant): FleetReport {
  const { steps, now, digest } = timeline
  const { seen, asked, state, refused } = promises
  return {
    steps,
    asked,
    machines: agents.length,
    lasted: now - start,
    digest,
    seen,
    version: state?.version ?? 0,
    leaders: state?.fence ?? 0,
    refused,
    forged,
  }
}
