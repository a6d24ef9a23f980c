/** What goes wrong in a fleet, at random moments, until it is told to stop. */
import type { Duration, Instant } from '../../../src/time.ts'
import type { Random } from '../random.ts'
import type { AgentMachine } from './agent-machine.ts'
import { type Domain, FIRST_EPOCH } from './founding.ts'
import type { IssuerMachine } from './issuer-machine.ts'
import type { People } from './people.ts'

export interface TroubleParts extends Domain {
  readonly people: People
  readonly random: Random
}

/** Does it, and says to whom. */
type Fault = (p: TroubleParts) => string

const offset = ({ random }: TroubleParts, most: Duration): Duration =>
  Math.round((random.next() * 2 - 1) * most)

/** Each with how often it happens, among all. */
const FAULTS: readonly (readonly [weight: number, name: string, fault: Fault])[] = [
  [
    10,
    'an agent is killed',
    ({ random, agents }) => crash(random.pick(agents), false, random.int(50, 20_000)),
  ],
  [
    6,
    'the power of a machine is cut',
    ({ random, agents }) => crash(random.pick(agents), true, random.int(500, 30_000)),
  ],
  [
    16,
    'a machine stops at one of its next steps on disk',
    ({ random, agents }) => {
      const machine = random.pick(agents)
      const [steps, powerCut, away] = [random.int(1, 16), random.chance(0.5), random.int(50, 10_000)]
      machine.stopAfter = { steps, powerCut, away }
      return machine.name
    },
  ],
  [
    8,
    'an agent is stopped',
    ({ random, agents, timeline, schedule }) =>
      freeze(random.pick(agents), timeline.now + random.int(500, schedule.epochDuration)),
  ],
  [
    8,
    'a machine is cut off',
    ({ random, agents, issuers, network, timeline, schedule }) => {
      const { name } = random.pick([...agents, ...issuers])
      network.cut(name, timeline.now + random.int(500, schedule.epochDuration))
      return name
    },
  ],
  [
    6,
    'a disk is full',
    (p) => {
      const { name, disk } = p.random.pick(p.agents)
      disk.full = true
      p.timeline.in(p.random.int(1_000, p.schedule.epochDuration / 2), null, `room again on ${name}`, () => {
        disk.full = false
      })
      return name
    },
  ],
  [
    10,
    'a target does not take its files',
    (p) => {
      const machine = p.random.pick(p.agents)
      if (p.random.chance(0.5)) machine.refuses = true
      else machine.deaf = true
      p.timeline.in(
        p.random.int(1_000, p.schedule.epochDuration),
        null,
        `${machine.name} takes them again`,
        () => {
          machine.refuses = false
          machine.deaf = false
        },
      )
      return `${machine.name} ${machine.deaf ? 'says it does' : 'refuses them'}`
    },
  ],
  [
    6,
    'a clock jumps',
    (p) => {
      const machine = p.random.pick(p.agents)
      // now and then by more than the lead: such a node is held for, or passed over
      machine.clockOffset = offset(p, p.random.chance(0.15) ? 3 * p.schedule.lead : p.schedule.lead / 3)
      return `${machine.name} by ${machine.clockOffset} ms`
    },
  ],
  [
    3,
    'the clock of an issuer jumps',
    (p) => {
      const issuer = p.random.pick(p.issuers)
      issuer.clockOffset = offset(p, p.schedule.lead / 4)
      return `${issuer.name} by ${issuer.clockOffset} ms`
    },
  ],
  [
    8,
    'an issuer is killed',
    ({ random, issuers }) => {
      const issuer = random.pick(issuers)
      issuer.crash(random.int(50, 10_000))
      return issuer.name
    },
  ],
  [
    6,
    'an issuer is stopped',
    ({ random, issuers, timeline, schedule }) =>
      freeze(random.pick(issuers), timeline.now + random.int(500, 1.2 * schedule.epochDuration)),
  ],
  [
    3,
    'the servers restart',
    ({ people }) => {
      people.restartServers()
      return 'all'
    },
  ],
  [8, 'a strange bundle is played', ({ random, agents, people }) => people.deceive(random.pick(agents))],
  [
    4,
    'sockets stay open',
    ({ random, agents }) => {
      const machine = random.pick(agents)
      machine.lingers = true
      return machine.name
    },
  ],
  [
    6,
    'sockets are closed',
    ({ random, agents }) => {
      const machine = random.pick(agents)
      machine.letGo()
      return machine.name
    },
  ],
  [3, 'a rotation is ordered', ({ people }) => people.order('rotate')],
  [1, 'a rotation is forced', ({ people }) => people.order('rotate', true)],
  [2, 'a withdrawal is ordered', ({ people }) => people.order('withdraw')],
  [2, 'a rollback is ordered', ({ people }) => people.order('rollback')],
  [1, 'the rotation is paused', ({ people }) => people.order('pause')],
  [2, 'the rotation is resumed', ({ people }) => people.order('resume')],
  [4, 'an authority is tainted', ({ people }) => people.order('taint')],
  [6, 'a new signer is ordered', ({ people }) => people.order('signer-rotate')],
  [1, 'a new signer is forced', ({ people }) => people.order('signer-rotate', true)],
  [2, 'the new signer is withdrawn', ({ people }) => people.order('signer-withdraw')],
  [
    1,
    'a key is lost',
    ({ random, keys, promises: { state } }) => {
      const active = state?.active ?? FIRST_EPOCH
      const next = state?.phase === 'distributing' ? state.next : null
      const epoch = next !== null && random.chance(0.6) ? next : active
      keys.lose(epoch)
      return `of epoch ${epoch}`
    },
  ],
]

function crash(machine: AgentMachine, powerCut: boolean, away: Duration): string {
  machine.crash(powerCut, away)
  return `${machine.name} for ${away} ms`
}

function freeze(machine: AgentMachine | IssuerMachine, until: Instant): string {
  machine.freeze(until)
  return `${machine.name} until ${until}`
}

const TOTAL = FAULTS.reduce((sum, [weight]) => sum + weight, 0)

/** Lets something go wrong every `mean` milliseconds on average; the returned function ends it. */
export function makeTrouble(p: TroubleParts, mean: Duration): () => void {
  let stopped = false
  const next = () => {
    p.timeline.in(p.random.until(mean), null, '', () => {
      if (stopped) return
      let at = p.random.next() * TOTAL
      for (const [weight, name, fault] of FAULTS) {
        at -= weight
        if (at >= 0) continue
        p.timeline.note(`-- ${name}: ${fault(p)}`)
        break
      }
      next()
    })
  }
  next()
  return () => {
    stopped = true
  }
}
