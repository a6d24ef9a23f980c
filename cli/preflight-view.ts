/** Findings and plans of a preflight, for people, and what they mean for the exit code. */
import { InvalidArgumentError } from 'commander'
import { FINDINGS, type Finding, type FindingId, type Severity } from '../src/preflight/findings.ts'
import type { Plan, PlanStep } from '../src/preflight/plan.ts'
import { colour } from './output.ts'

const COLOUR = { error: 'red', warning: 'yellow', info: 'dim' } as const satisfies Record<Severity, string>

/** Of the option `--accept`: may be given several times. */
export function acceptedId(text: string, before: readonly FindingId[] = []): FindingId[] {
  const id = (Object.keys(FINDINGS) as FindingId[]).find((known) => known === text)
  if (id === undefined) throw new InvalidArgumentError('expected an id of docs/preflight.md.')
  return [...before, id]
}

/** Errors and warnings that were not accepted. */
export const counting = (findings: readonly Finding[], accepted: readonly FindingId[]): Finding[] =>
  findings.filter(({ id, severity }) => severity !== 'info' && !accepted.includes(id))

export function renderFindings(findings: readonly Finding[], accepted: readonly FindingId[]): string {
  if (findings.length === 0) return colour('green', 'nothing was found')
  const lines = findings.map(({ id, severity, subject, found, action }) => {
    const word = accepted.includes(id) ? colour('dim', 'accepted') : colour(COLOUR[severity], severity)
    return `${word} ${colour('bold', id)} ${subject.kind} ${subject.name}: ${found}\n  ${action}`
  })
  const count = (severity: Severity) => findings.filter((one) => one.severity === severity).length
  const left = counting(findings, accepted).length
  const sum = `errors: ${count('error')}, warnings: ${count('warning')}, to know: ${count('info')}`
  return [...lines, '', left === 0 ? colour('green', sum) : colour('yellow', sum)].join('\n')
}

export function renderPlan(plan: Plan): string {
  const { servers, others } = plan.order
  const steps = plan.steps.map((step, i) => `${String(i + 1).padStart(2)}. ${inWords(step)}`)
  const order = [
    `servers, one at a time: ${servers.join(', ') || 'none'}; the one that asks first is the canary`,
    `then, when it is proven on the canary: ${others.join(', ') || 'nobody'}`,
  ]
  return [...steps, ...(steps.length === 0 ? [] : ['', ...order]), '', outcome(plan)].join('\n')
}

function inWords(step: PlanStep): string {
  switch (step.kind) {
    case 'make':
      return `make the ${step.what} ${step.name}${step.under === null ? '' : ` under root ${step.under.slice(0, 8)}`}`
    case 'move':
      return `${step.move} (${step.phase}): ${step.reason}`
    case 'wait': {
      const whom = step.for.length === 0 ? '' : ` for ${step.for.join(', ')}`
      const holds = step.holds.map(({ kind, name, missing }) =>
        colour('red', `\n      would hold for ${kind} ${name}: ${missing}`),
      )
      return `wait${whom} (${step.phase}: ${step.reason})${holds.join('')}`
    }
  }
}

function outcome({ outcome: what, refused, goesOnAt }: Plan): string {
  if (what === 'done') return colour('green', 'a rotation would go through')
  if (what === 'refused') return colour('red', `a rotation would be refused now: ${refused}`)
  const until = goesOnAt === null ? '' : `; without them it would go on at ${goesOnAt}`
  return colour('yellow', `a rotation would hold${until}`)
}
