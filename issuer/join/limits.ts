/** How often may somebody ask? A bucket of requests for each address and one for all, refilled by time. Pure but for what it remembers. */
import { isIPv6 } from 'node:net'
import type { Duration, Instant } from '../../src/time.ts'

export interface Limit {
  /** Requests that may come at once. */
  readonly burst: number
  /** Requests a second after that. */
  readonly perSecond: number
}

export interface JoinLimits {
  /** For one IPv4 address or one IPv6 network of 64 bits. @default 20 at once, then 1 a second */
  readonly perAddress: Limit
  /** @default 200 at once, then 20 a second */
  readonly overall: Limit
}

export const DEFAULT_LIMITS: JoinLimits = {
  perAddress: { burst: 20, perSecond: 1 },
  overall: { burst: 200, perSecond: 20 },
}

/** Addresses that are remembered. A full bucket is forgotten; beyond this the oldest is. */
const MAX_ADDRESSES = 10_000

interface Bucket {
  left: number
  at: Instant
}

export class Limits {
  readonly #limits: JoinLimits
  readonly #overall: Bucket
  /** Least recently used first. */
  readonly #byAddress = new Map<string, Bucket>()

  constructor(limits: JoinLimits, now: Instant) {
    this.#limits = limits
    this.#overall = { left: limits.overall.burst, at: now }
  }

  /** Takes one request out of both buckets; or the milliseconds after which there is one again. */
  take(address: string, now: Instant): Duration | null {
    const { perAddress, overall } = this.#limits
    const source = sourceOf(address)
    const bucket = this.#byAddress.get(source) ?? { left: perAddress.burst, at: now }
    this.#byAddress.delete(source)
    this.#byAddress.set(source, bucket)
    this.#forget()
    const waits = [refill(bucket, perAddress, now), refill(this.#overall, overall, now)]
    const wait = Math.max(...waits)
    if (wait > 0) return wait
    bucket.left -= 1
    this.#overall.left -= 1
    return null
  }

  #forget(): void {
    if (this.#byAddress.size <= MAX_ADDRESSES) return
    const [oldest] = this.#byAddress.keys()
    if (oldest !== undefined) this.#byAddress.delete(oldest)
  }
}

/** Returns the milliseconds until there is a whole request in it; 0 when there is. */
function refill(bucket: Bucket, { burst, perSecond }: Limit, now: Instant): Duration {
  // a clock that went back gives nothing
  const gained = (Math.max(0, now - bucket.at) / 1000) * perSecond
  bucket.left = Math.min(burst, bucket.left + gained)
  bucket.at = now
  return bucket.left >= 1 ? 0 : Math.ceil(((1 - bucket.left) / perSecond) * 1000)
}

/** Whoever has one IPv6 address has at least the 2^64 of its network. */
export function sourceOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined || !isIPv6(address)) return mapped ?? address
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const groups = head === '' ? [] : head.split(':')
  const last = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? [] : Array.from({ length: 8 - groups.length - last.length }, () => '0')
  return [...groups, ...zeros, ...last]
    .slice(0, 4)
    .map((g) => Number.parseInt(g, 16).toString(16))
    .join(':')
}
