/** Did a process come back with the new files? Shown by a handshake with its listener, by a command of the user's, or both. */
import type { ProbeConfig, ProofConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { assertProven, DEFAULT_TIMEOUT, type ProbeTarget, probeListener } from '../../src/probe/probe.ts'
import { Backoff } from '../../src/tasks.ts'
import { type Clock, type Duration, systemClock } from '../../src/time.ts'
import type { TargetStatus } from '../../src/wire/status.ts'
import { assertExecutable, runCommand } from './command.ts'
import type { TargetContext } from './target.ts'

/** With `accepts` false it is not looked at whether our certificate is taken. */
export type ProvenListener = ProbeTarget & { readonly accepts?: boolean }
type Proving = Pick<TargetContext, 'identity' | 'signal'>

/** The words for a target, and the leaf when one was seen. */
export type Evidence = Pick<TargetStatus, 'evidence' | 'fingerprint'>

export class Proof {
  readonly #config: ProofConfig
  readonly #clock: Clock
  /** The leaf that was there before, in our files or seen. */
  #leaf: string

  constructor(config: ProofConfig, initial: IdentitySnapshot, clock: Clock = systemClock) {
    this.#config = config
    this.#clock = clock
    this.#leaf = initial.leaf.sha256
  }

  /** Throws ERR_TARGET_UNREACHABLE when no proof could ever be given: no such command, nobody listens. */
  async check(identity: IdentitySnapshot, signal: AbortSignal): Promise<void> {
    const { check, probe, timeout } = this.#config
    if (check?.[0] !== undefined) await assertExecutable(check[0])
    if (probe === undefined) return
    const patience = Math.min(timeout, DEFAULT_TIMEOUT)
    await probeListener(listenerOf(probe), { material: identity, timeout: patience, signal }).catch(
      (cause) => {
        throw new RotorError('ERR_TARGET_UNREACHABLE', `probe: ${RotorError.from(cause).message}`, { cause })
      },
    )
  }

  /**
   * Null when neither `probe` nor `check` is configured. Throws ERR_PROOF_FAILED, or the code of the probe that
   * failed last.
   */
  async prove({ identity, signal }: Proving): Promise<Evidence | null> {
    const { check, probe, timeout } = this.#config
    const words: string[] = []
    const { sha256 } = identity.leaf
    if (probe !== undefined) {
      await untilProven([listenerOf(probe)], { identity, signal }, timeout, this.#clock)
      // An unchanged leaf does not show that the trust was read again.
      const serves = this.#leaf === sha256 ? 'serves the leaf, as before' : 'now serves the leaf'
      words.push(
        `${probe.kind} listener ${probe.address} ${serves}${probe.accepts ? ', and accepts it' : ''}`,
      )
      this.#leaf = sha256
    }
    if (check !== undefined) {
      await runCommand(check, { timeout, signal, code: 'ERR_PROOF_FAILED' })
      words.push(`${check[0]} ended with 0`)
    }
    if (words.length === 0) return null
    return { evidence: words.join('; '), ...(probe === undefined ? {} : { fingerprint: sha256 }) }
  }
}

const listenerOf = ({ serverName, ...probe }: ProbeConfig): ProvenListener => ({
  ...probe,
  servername: serverName ?? null,
})

/**
 * Dials the listeners until each serves the leaf of this identity and takes it; throws the last failure of one when
 * that is not so after `timeout`. A dial that was begun is waited for.
 */
export async function untilProven(
  listeners: readonly ProvenListener[],
  { identity, signal }: Proving,
  timeout: Duration,
  clock: Clock,
): Promise<void> {
  const deadline = clock.now() + timeout
  // Each dial may be a line in the log of somebody.
  const pause = new Backoff({ base: 25, max: 250 })
  for (;;) {
    const failures = await Promise.all(
      listeners.map((listener) => failureOf(listener, { identity, signal }, timeout)),
    )
    const failed = failures.find((failure) => failure !== null)
    if (failed === undefined) return
    if (clock.now() >= deadline) throw failed
    await pause.wait(signal)
  }
}

async function failureOf(
  { accepts = true, ...listener }: ProvenListener,
  { identity, signal }: Proving,
  timeout: Duration,
): Promise<RotorError | null> {
  try {
    const result = await probeListener(listener, {
      material: identity,
      timeout: Math.min(timeout, DEFAULT_TIMEOUT),
      signal,
    })
    // First what it serves: one that did not read its files may refuse our new certificate because of that.
    assertProven({ ...result, accepted: true }, { fingerprint: identity.leaf.sha256 })
    if (accepts) assertProven(result)
    return null
  } catch (cause) {
    signal.throwIfAborted()
    return RotorError.from(cause, 'ERR_PROOF_FAILED', `${listener.kind} ${listener.address}`)
  }
}
