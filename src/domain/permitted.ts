/** Which names may the authorities of a domain certify? `authorities.permitted` of issuer.json, and whether it fits. */
import { z } from 'zod'
import { namesOutside, type Permitted, PROBLEM_OF } from '../trust/name-constraints.ts'
import { domainNames } from '../wire/names.ts'
import { type AgentEntry, entryFor } from './agents.ts'

const subtrees = (kind: keyof Permitted) =>
  z
    .array(
      z.string().superRefine((text, context) => {
        const message = PROBLEM_OF[kind](text)
        if (message !== null) context.addIssue({ code: 'custom', message })
      }),
    )
    .max(64)
    .default([])

/** Name constraints (RFC 5280 4.2.1.10); a kind without a subtree is not limited. */
export const permittedNames = z.strictObject({
  dns: subtrees('dns'),
  ip: subtrees('ip'),
  uri: subtrees('uri'),
})

interface Limited {
  readonly domain: string
  readonly agents: readonly AgentEntry[]
  readonly authorities?: { readonly permitted?: Permitted | undefined } | undefined
}

/** Names that the policy gives and no verifier would accept: told before anything is signed. Pure. */
export function problemsOfPermitted({ domain, agents, authorities }: Limited): string[] {
  const permitted = authorities?.permitted
  if (permitted === undefined) return []
  return agents.flatMap(({ name: written, names: given }) => {
    // any agent of a pattern stands for all: what is filled in has no dot
    const name = written.replace(/\*$/, 'x')
    const names = entryFor(agents, name)?.names ?? given
    const uri = [domainNames(domain).spiffeId(name), ...names.uri]
    const outside = namesOutside({ ...names, uri }, permitted)
    return outside.length === 0
      ? []
      : [`authorities.permitted: expected it to permit what agents.${written} gets: ${outside.join(', ')}`]
  })
}
