/** Would a server that works with what this node holds also work with what is staged? Asked before anybody uses it. */
import { RotorError } from '../src/errors.ts'
import type { IdentitySnapshot } from '../src/identity/identity.ts'
import { type ProbeTarget, probeListener } from '../src/probe/probe.ts'

/**
 * Asks one server after the other until one gives an answer. A server that does not work with the present material
 * either says nothing about the staged one: its own agent may hang, and must not hold up all others. Throws
 * ERR_PROBE_REFUSED or ERR_PROBE_UNTRUSTED when the staged material would break what works now, or what the last
 * server said when none gave an answer. `servers`: `host:port`, or with a scheme.
 */
export async function preflight(
  servers: readonly string[],
  handshakeFirst: boolean,
  held: IdentitySnapshot,
  staged: IdentitySnapshot,
  signal: AbortSignal,
): Promise<void> {
  let last: RotorError | null = null
  for (const address of new Set(servers.map((server) => server.replace(/^\w+:\/\//, '')))) {
    const client: ProbeTarget = { kind: 'client', address, handshakeFirst }
    const problem = await problemWith(client, staged, signal)
    if (problem === null) return
    if (problem.code.startsWith('ERR_PROBE_') && (await problemWith(client, held, signal)) === null) {
      throw problem
    }
    last = problem
  }
  if (last !== null) throw last
}

async function problemWith(
  client: ProbeTarget,
  material: IdentitySnapshot,
  signal: AbortSignal,
): Promise<RotorError | null> {
  try {
    const result = await probeListener(client, { material, signal })
    const { address } = client
    if (!result.accepted)
      return new RotorError('ERR_PROBE_REFUSED', `preflight: ${address} refuses the staged leaf`)
    if (result.trusted) return null
    const why = result.untrusted ?? ''
    return new RotorError(
      'ERR_PROBE_UNTRUSTED',
      `preflight: the staged trust file does not verify ${address}: ${why}`,
    )
  } catch (cause) {
    signal.throwIfAborted()
    return RotorError.from(cause, 'ERR_PROBE_UNREACHABLE', 'preflight')
  }
}
