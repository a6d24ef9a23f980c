/**
 * A service in a process of its own that knows nothing of us: an https server with mutual TLS from three files, told
 * to read them again by SIGHUP or by a request to /reload. It does so for clients that ask for its name (SNI). What it
 * does when it is told stands in the file `behaviour`:
 *
 *   good       reads all three files         sick       the same; a check command can look for this word
 *   stale      reads the trust file only     ignores    nothing, and says that all is well
 *   fails      answers 500                   redirects  answers 307
 *   dies       ends                          hangs      until the file says something else
 *
 * Arguments: folder of the three files, folder of `behaviour`, port of https, port of http.
 */
import { readFileSync } from 'node:fs'
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { join } from 'node:path'
import { createSecureContext, type SecureContext } from 'node:tls'

const [identity = '', folder = '', tlsPort = '', httpPort = ''] = process.argv.slice(2)

const behaviour = (): string => readFileSync(join(folder, 'behaviour'), 'utf8')

const read = (name: string): string => readFileSync(join(identity, name), 'utf8')

/** A TLS server of Node takes intermediates as trust anchors only in a context that is made apart from it. */
function load({ key, cert }: Pair): SecureContext {
  return createSecureContext({ key, cert, ca: read('ca.pem'), allowPartialTrustChain: true })
}

interface Pair {
  readonly key: string
  readonly cert: string
}
const pair = (): Pair => ({ key: read('tls.key'), cert: read('tls.crt') })

const first = pair()
let context = load(first)
const tls = {
  ...first,
  SNICallback: (_: string, done: (error: null, found: SecureContext) => void) => done(null, context),
  requestCert: true,
  rejectUnauthorized: true,
}
createHttps(tls, answer).listen(Number(tlsPort), '127.0.0.1', () => {
  createHttp(answer).listen(Number(httpPort), '127.0.0.1', () => process.stdout.write('ready\n'))
})

function reload(): void {
  const now = behaviour()
  if (now === 'good' || now === 'sick') context = load(pair())
  if (now === 'stale') context = load(first)
  if (now === 'dies') process.exit(1)
}

process.on('SIGHUP', () => {
  const pause = new Int32Array(new SharedArrayBuffer(4))
  while (behaviour() === 'hangs') Atomics.wait(pause, 0, 0, 20)
  reload()
})

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'POST' || request.url !== '/reload') return void response.writeHead(404).end()
  switch (behaviour()) {
    case 'hangs':
      return
    case 'fails':
      return void response.writeHead(500).end('no room for another certificate\n')
    case 'redirects':
      return void response.writeHead(307, { location: '/elsewhere' }).end()
    default:
      reload()
      response.writeHead(204).end()
  }
}
