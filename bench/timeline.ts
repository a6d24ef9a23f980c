/**
 * What happened to each bundle, folded from the events of all processes. Pure: events in, times out.
 *
 *   issuer:  commit ... publish (before, after) ........................... commit of the next move
 *   node:             deliver | verify | renew | stage | preflight | turn | publish | notify | prove | link | report
 */
import type { ChildEvent } from '../demo/child.ts'

/** Parts of a node's way from "the issuer begins to publish" to "applied and proven", in order. */
export const PARTS = [
  'deliver',
  'verify',
  'renew',
  'stage',
  'preflight',
  'turn',
  'publish',
  'notify',
  'prove',
  'link',
  'report',
] as const
export type Part = (typeof PARTS)[number]
/** Milliseconds; a part that was not needed is absent. */
export type Parts = Partial<Record<Part, number>>

interface Mark {
  readonly part: Part
  readonly at: number
}

interface NodeTimes {
  readonly marks: Mark[]
  /** Milliseconds to renew the control connection. */
  link: number
  appliedAt: number | null
}

interface BundleTimes {
  /** Empty until the issuer's event of it came. */
  move: string
  publishAt: number | null
  readonly nodes: Map<string, NodeTimes>
}

export interface Measured {
  /** From the begin of publishing to the last node applied and proven, milliseconds. */
  readonly provenMs: number
  readonly slowest: string
  readonly parts: ReadonlyMap<string, Parts>
}

export class Timeline {
  readonly #nodes: ReadonlySet<string>
  readonly #bundles = new Map<number, BundleTimes>()
  readonly #verifyAt = new Map<string, number>()
  readonly #applied = new Map<string, number>()
  readonly #decided = new Map<number, number>()
  readonly failures: string[] = []
  #version = 0
  #idle = false

  constructor(nodes: readonly string[]) {
    this.#nodes = new Set(nodes)
  }

  /** The issuer waits for nothing, and every node has what was published last. */
  get quiet(): boolean {
    return this.#idle && [...this.#nodes].every((node) => (this.#applied.get(node) ?? 1) >= this.#version)
  }

  /** The newest version that this move published, or null. */
  versionOf(move: string): number | null {
    return [...this.#bundles].findLast(([, bundle]) => bundle.move === move)?.[0] ?? null
  }

  take(event: ChildEvent): void {
    const at = typeof event.clock === 'number' ? event.clock : Date.parse(event.at ?? '')
    const node = event.node ?? ''
    const version = Number(event.version)
    switch (event.type) {
      case 'commit':
        this.#commit(String(event.when), String(event.move), version, at)
        return
      case 'effect':
        this.#effect(String(event.when), event.effect, at)
        return
      case 'waiting':
        this.#idle = event.reason === 'not-due'
        return
      case 'step':
        // the version is not known before the bundle was verified
        if (event.step === 'verify') this.#verifyAt.set(node, at)
        else this.#mark(version, node, String(event.step), at)
        return
      case 'turn':
        if (event.turn === 'wanted') this.#mark(version, node, 'turn', at)
        return
      case 'link': {
        const times = this.#bundles.get(version)?.nodes.get(node)
        if (times !== undefined) times.link = Number(event.tookMs)
        return
      }
      case 'applied': {
        this.#applied.set(node, version)
        const times = this.#bundles.get(version)?.nodes.get(node)
        if (times !== undefined) times.appliedAt ??= at
        return
      }
      case 'rolled-back':
      case 'refused':
        this.failures.push(`${node}: ${event.type}, ${event.code}: ${event.message}`)
    }
  }

  /** Null while some node has not proven this version. */
  measure(version: number): Measured | null {
    const bundle = this.#bundles.get(version)
    const began = bundle?.publishAt
    if (bundle === undefined || began == null) return null
    const parts = new Map<string, Parts>()
    let last = { node: '', at: 0 }
    for (const node of this.#nodes) {
      const times = bundle.nodes.get(node)
      if (times === undefined || times.appliedAt === null) return null
      parts.set(node, partsOf(times, began, times.appliedAt))
      if (times.appliedAt > last.at) last = { node, at: times.appliedAt }
    }
    return { provenMs: last.at - began, slowest: last.node, parts }
  }

  /** From the begin of publishing to the issuer's next commit: it has all evidence and goes on. Null before. */
  decidedMs(version: number): number | null {
    const began = this.#bundles.get(version)?.publishAt
    const decided = this.#decided.get(version)
    return began == null || decided === undefined ? null : decided - began
  }

  #commit(when: string, move: string, version: number, at: number): void {
    if (when === 'before') return
    this.#idle = false
    if (!this.#decided.has(this.#version)) this.#decided.set(this.#version, at)
    if (version === this.#version) return
    this.#version = version
    this.#bundle(version).move = move
  }

  /** Events of several processes come in any order. */
  #bundle(version: number): BundleTimes {
    const bundle = this.#bundles.get(version) ?? { move: '', publishAt: null, nodes: new Map() }
    this.#bundles.set(version, bundle)
    return bundle
  }

  #effect(when: string, effect: unknown, at: number): void {
    const { kind, version } = effect as { kind: string; version?: number }
    if (kind === 'publish-bundle' && when === 'before') this.#bundle(version ?? 0).publishAt ??= at
  }

  #mark(version: number, node: string, name: string, at: number): void {
    const part = PARTS.find((known) => known === name)
    if (part === undefined) return
    const { nodes } = this.#bundle(version)
    let times = nodes.get(node)
    if (times === undefined) {
      const verifyAt = this.#verifyAt.get(node)
      times = {
        marks: verifyAt === undefined ? [] : [{ part: 'verify', at: verifyAt }],
        link: 0,
        appliedAt: null,
      }
      nodes.set(node, times)
    }
    times.marks.push({ part, at })
  }
}

function partsOf({ marks, link }: NodeTimes, began: number, end: number): Parts {
  const parts: Parts = {}
  const all: readonly Mark[] = [{ part: 'deliver', at: began }, ...marks]
  for (const [i, mark] of all.entries()) {
    const next = all[i + 1]?.at ?? end
    parts[mark.part] = (parts[mark.part] ?? 0) + next - mark.at
  }
  if (link > 0) {
    parts.prove = Math.max(0, (parts.prove ?? 0) - link)
    parts.link = link
  }
  return parts
}
