/** Which host and port does this text name? */
import { isIP } from 'node:net'
import { RotorError } from '../errors.ts'

export interface Address {
  /** Host name or IP address, IPv6 without brackets. */
  readonly host: string
  readonly port: number
  /** The host is an IP address: no SNI is sent for it, and it is looked for among the IP names. */
  readonly ip: boolean
}

/**
 * `host:port` or `[::1]:port`, with or without a scheme (`nats://`, `tls://`). `what` names the key in messages.
 * Throws ERR_CONFIG_INVALID when it is neither, or has no port and no `defaultPort` is given.
 */
export function parseAddress(text: string, what = 'address', defaultPort?: number): Address {
  const form = /^(?:[a-z]+:\/\/)?(?:[^@/]*@)?(?:\[([0-9a-f:.]+)\]|([^\s:/[\]@]+))(?::(\d{1,5}))?\/?$/i
  const [, v6, name, digits] = form.exec(text) ?? []
  const host = v6 ?? name
  const port = digits === undefined ? defaultPort : Number(digits)
  if (host === undefined || port === undefined || port < 1 || port > 65_535 || (v6 && isIP(v6) !== 6)) {
    throw new RotorError(
      'ERR_CONFIG_INVALID',
      // a URL may carry a password before the "@"
      `${what}: expected "host:port", found ${JSON.stringify(text.replace(/\/\/[^@]*@/, '//***@'))}`,
    )
  }
  return { host, port, ip: isIP(host) !== 0 }
}
