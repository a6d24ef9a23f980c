/** A service that reads its files again when it is told over HTTP: with TLS, or on this machine. */
import type { TargetConfig } from '../../src/domain/config.ts'
import { RotorError } from '../../src/errors.ts'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { Dial } from '../../src/probe/dial.ts'
import { DEFAULT_TIMEOUT } from '../../src/probe/probe.ts'
import { makeRequest, sendRequest, shownUrl } from './http-request.ts'
import { Proof } from './proof.ts'
import type { Target } from './target.ts'

export type HttpTargetConfig = Extract<TargetConfig, { type: 'http' }>

/** Without `probe` and `check` the proof is only the answer; the evidence says so. */
export function httpTarget(config: HttpTargetConfig, initial: IdentitySnapshot): Target {
  const name = `${config.method} ${shownUrl(config.url)}`
  const proof = new Proof(config, initial)
  let status = 0
  return {
    type: 'http',
    name,
    exclusive: false,
    check: async (signal) => {
      await makeRequest(config, initial)
      await assertListening(config.url, signal)
      await proof.check(initial, signal)
    },
    notify: async ({ identity, signal }) => {
      status = await sendRequest(await makeRequest(config, identity), signal)
    },
    prove: async (context) => {
      const evidence = await proof.prove(context)
      return {
        type: 'http',
        name,
        ok: true,
        ...(evidence ?? { evidence: `it answered ${status}; nothing was asked for that shows more` }),
      }
    },
  }
}

/** A request at the start would already make the service do something. */
async function assertListening(url: string, signal: AbortSignal): Promise<void> {
  const { hostname, port, protocol } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  const address = { host, port: Number(port || (protocol === 'https:' ? 443 : 80)), ip: false }
  const dial = new Dial(shownUrl(url), address, { timeout: DEFAULT_TIMEOUT, signal })
  try {
    await dial.connect()
  } catch (cause) {
    throw new RotorError('ERR_TARGET_UNREACHABLE', RotorError.from(cause).message, { cause })
  } finally {
    dial.destroy()
  }
}
