/** What the demo knows while it runs, folded from the events of all processes. Pure: events in, numbers out. */
import type { ChildEvent } from './child.ts'
import type { TrafficCounts } from './traffic.ts'

export interface NodeProgress {
  readonly name: string
  readonly role: 'server' | 'library' | 'sidecar' | 'issuer'
  version: number
  epoch: number
  step: string
  counts: TrafficCounts | null
}

export interface Flow {
  readonly published: number
  readonly received: number
  readonly lost: number
  readonly duplicated: number
}

export class Progress {
  readonly nodes = new Map<string, NodeProgress>()
  readonly #neighbours: ReadonlyMap<string, string>
  /** Versions that let a new authority sign, with the time they were published. */
  readonly #activations = new Map<number, number>()
  readonly #pending = new Map<number, Set<string>>()
  /** Milliseconds from the publication of a new signer to the last node proven on it. */
  readonly rotationMs: number[] = []
  rotations = 0
  version = 1
  waits: string[] = []

  /** `neighbours`: service to the service whose messages it receives. */
  constructor(
    nodes: readonly Pick<NodeProgress, 'name' | 'role'>[],
    neighbours: ReadonlyMap<string, string>,
  ) {
    for (const node of nodes)
      this.nodes.set(node.name, { ...node, version: 1, epoch: 0, step: 'idle', counts: null })
    this.#neighbours = neighbours
  }

  take(event: ChildEvent): void {
    const node = event.node === undefined ? undefined : this.nodes.get(event.node)
    const at = event.at === undefined ? 0 : Date.parse(event.at)
    if (event.type === 'counts' && node !== undefined) node.counts = event as unknown as TrafficCounts
    if (event.type === 'step' && node !== undefined) node.step = String(event.step)
    if (event.type === 'rolled-back' && node !== undefined) node.step = `rolled back: ${String(event.code)}`
    if (event.type === 'applied' && node !== undefined)
      this.#applied(node, Number(event.version), Number(event.epoch), at)
    if (event.type === 'commit' && event.when === 'after')
      this.#moved(String(event.move), Number(event.version))
    if (event.type === 'effect' && event.when === 'after') this.#published(event.effect, at)
    if (event.type === 'waiting')
      this.waits = [...new Set((event.waitingFor as { name: string }[]).map((w) => w.name))]
  }

  /** Sums over all services; what a service received is compared with what its neighbour published. */
  get flows(): {
    core: Flow & { reordered: number }
    jetstream: Flow
    requests: { sent: number; failed: number }
  } {
    const sum = (pick: (node: NodeProgress) => number) =>
      [...this.nodes.values()].reduce((total, node) => total + pick(node), 0)
    const lost = (kind: 'core' | 'jetstream') =>
      sum((node) => {
        const source = this.nodes.get(this.#neighbours.get(node.name) ?? '')
        return Math.max(0, (source?.counts?.[kind].published ?? 0) - (node.counts?.[kind].received ?? 0))
      })
    const flow = (kind: 'core' | 'jetstream') => ({
      published: sum((node) => node.counts?.[kind].published ?? 0),
      received: sum((node) => node.counts?.[kind].received ?? 0),
      lost: lost(kind),
      duplicated: sum((node) => node.counts?.[kind].duplicated ?? 0),
    })
    return {
      core: { ...flow('core'), reordered: sum((node) => node.counts?.core.reordered ?? 0) },
      jetstream: flow('jetstream'),
      requests: {
        sent: sum((node) => node.counts?.requests.sent ?? 0),
        failed: sum((node) => node.counts?.requests.failed ?? 0),
      },
    }
  }

  /** What a service of the view has of its neighbour's messages. */
  lostBy(name: string): number {
    const own = this.nodes.get(name)?.counts
    const source = this.nodes.get(this.#neighbours.get(name) ?? '')?.counts
    if (own == null || source == null) return 0
    return Math.max(
      0,
      source.core.published + source.jetstream.published - own.core.received - own.jetstream.received,
    )
  }

  #moved(move: string, version: number): void {
    this.version = version
    if (move === 'activate') this.#activations.set(version, 0)
    if (move === 'converge') this.rotations += 1
    this.waits = []
  }

  #published(effect: unknown, at: number): void {
    const { kind, version } = effect as { kind: string; version: number }
    if (kind !== 'publish-bundle' || this.#activations.get(version) !== 0) return
    this.#activations.set(version, at)
    this.#pending.set(version, new Set(this.nodes.keys()))
  }

  #applied(node: NodeProgress, version: number, epoch: number, at: number): void {
    node.version = version
    node.epoch = epoch
    node.step = 'idle'
    for (const [activation, pending] of this.#pending) {
      if (version < activation) continue
      pending.delete(node.name)
      if (pending.size > 0) continue
      this.#pending.delete(activation)
      this.rotationMs.push(Math.max(0, at - (this.#activations.get(activation) ?? at)))
    }
  }
}

/** Nearest-rank percentile; null of nothing. */
export function percentile(values: readonly number[], p: number): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? null
}
