/** Does a server of this process serve this leaf to a new connection? Found out by dialling it. */
import cluster from 'node:cluster'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { connect, type Server, type TLSSocket } from 'node:tls'
import { RotorError } from '../errors.ts'
import type { IdentitySnapshot } from '../identity/identity.ts'
import type { Duration } from '../time.ts'
import { clientTls } from './contexts.ts'
import { shortLeaf } from './following.ts'

export interface Proof {
  readonly proven: boolean
  /** The evidence. */
  readonly words: string
}

/**
 * The server sees one connection from its own process that says nothing and ends. Throws
 * ERR_PROOF_FAILED when there is no handshake or another leaf.
 */
export async function proveServer(
  server: Server,
  next: IdentitySnapshot,
  timeout: Duration,
  signal: AbortSignal,
): Promise<Proof> {
  const address = server.address()
  const leaf = `leaf ${shortLeaf(next)}`
  const unproven = (why: string): Proof => ({
    proven: false,
    words: `${leaf} set for new handshakes; not proven: ${why}`,
  })
  if (address === null) return unproven('the server does not listen')
  if (cluster.isWorker) return unproven('other processes listen on the same address')
  const where = typeof address === 'string' ? address : `${address.address} port ${address.port}`
  const served = await dial(
    server,
    address,
    next,
    AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
  ).catch((cause: unknown) => {
    throw failed(signal.aborted ? signal.reason : cause, `${where}: no TLS handshake`)
  })
  if (served !== next.leaf.sha256) {
    throw failed(undefined, `${where}: expected ${leaf}, a new connection was served ${served.slice(0, 16)}`)
  }
  return { proven: true, words: `${leaf} served to a new connection at ${where}` }
}

const failed = (cause: unknown, message: string): RotorError => {
  if (RotorError.is(cause)) return cause
  const reason = cause instanceof Error ? `: ${cause.message}` : ''
  return new RotorError('ERR_PROOF_FAILED', message + reason, { cause })
}

/** The fingerprint of the leaf that the server shows. */
function dial(
  server: Server,
  address: AddressInfo | string,
  next: IdentitySnapshot,
  signal: AbortSignal,
): Promise<string> {
  const speaksHttp2 = 'updateSettings' in server
  const socket = connect({
    ...(typeof address === 'string' ? { path: address } : { host: reachable(address), port: address.port }),
    ...clientTls(next),
    // Without a name the server uses its own context, not one of `addContext`. Whose certificate it is, is the question.
    servername: '',
    rejectUnauthorized: false,
    // An HTTP/2 server treats a connection without ALPN as a fault.
    ...(speaksHttp2 ? { ALPNProtocols: ['h2'] } : {}),
  })
  return new Promise<string>((resolve, reject) => {
    const stop = (): void => {
      socket.destroy()
      reject(signal.reason)
    }
    if (signal.aborted) return stop()
    signal.addEventListener('abort', stop, { once: true })
    socket.on('error', reject)
    socket.once('close', () => {
      signal.removeEventListener('abort', stop)
      reject(new Error('the connection was closed'))
    })
    socket.once('secureConnect', () => {
      const shown = socket.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase()
      if (shown === undefined) reject(new Error('the server showed no certificate'))
      else resolve(shown)
      leavePolitely(socket)
    })
  })
}

function leavePolitely(socket: TLSSocket): void {
  if (socket.alpnProtocol !== 'h2') {
    socket.end()
    // What the server says first, nobody waits for.
    socket.resume()
    return
  }
  const session = connectHttp2('https://localhost', { createConnection: () => socket })
  session.on('error', () => socket.destroy())
  session.once('connect', () => session.close())
}

/** A server that listens everywhere is reached on the loopback. */
function reachable({ address }: AddressInfo): string {
  if (address === '0.0.0.0') return '127.0.0.1'
  return address === '::' ? '::1' : address
}
