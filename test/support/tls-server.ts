/** A real nats-server with TLS listeners of every kind asked for, in a folder of its own. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  findNatsServer,
  type NatsServerProcess,
  type NatsServerRelease,
  startNatsServer,
} from '../../src/local/nats-server.ts'
import { freePorts } from '../../src/local/ports.ts'
import type { ListenerKind } from '../../src/rotation/state.ts'
import type { Certificate } from '../../src/trust/certificate.ts'
import type { TestLeaf } from './test-domain.ts'

export interface TlsServerOptions {
  readonly release?: NatsServerRelease
  readonly leaf: TestLeaf
  /** Whom the server trusts. */
  readonly trusted: readonly Certificate[]
  /** Beside `client`. */
  readonly listeners?: readonly ListenerKind[]
  /** Lines for the `tls` block of a listener. */
  readonly tls?: Partial<Record<ListenerKind, string>>
  /** More lines of configuration. */
  readonly config?: string
}

export interface TlsServer extends AsyncDisposable {
  readonly process: NatsServerProcess
  readonly configFile: string
  address(kind: ListenerKind): string
  /** Puts other files in place of the present ones; the server does not know yet. */
  write(leaf: Pick<TestLeaf, 'chainPem' | 'keyPem'>, trusted: readonly Certificate[]): Promise<void>
  /** All lines of the log so far. */
  log(): Promise<string[]>
}

const NAME = 'tested'

export async function startTlsServer(options: TlsServerOptions): Promise<TlsServer> {
  const folder = await mkdtemp(join(tmpdir(), 'rotor-tls-server-'))
  const kinds: readonly ListenerKind[] = ['client', ...(options.listeners ?? [])]
  const ports = await freePorts(kinds.length)
  const address = (kind: ListenerKind): string => {
    const port = ports[kinds.indexOf(kind)]
    if (port === undefined) throw new TypeError(`the server has no ${kind} listener`)
    return `127.0.0.1:${port}`
  }
  const write: TlsServer['write'] = async (leaf, trusted) => {
    await writeFile(join(folder, 'tls.crt'), leaf.chainPem)
    await writeFile(join(folder, 'tls.key'), leaf.keyPem, { mode: 0o600 })
    await writeFile(join(folder, 'ca.pem'), trusted.map((authority) => authority.pem).join(''))
  }
  try {
    await write(options.leaf, options.trusted)
    const blocks = kinds.map((kind) => block(kind, address(kind), options.tls?.[kind] ?? ''))
    const config = [`server_name: ${NAME}`, ...blocks, options.config ?? ''].join('\n')
    const configFile = join(folder, 'server.conf')
    await writeFile(configFile, config)
    const process = await startNatsServer({
      name: NAME,
      cwd: folder,
      configFile: 'server.conf',
      binary: findNatsServer(options.release),
    })
    return {
      process,
      configFile,
      address,
      write,
      log: async () => (await readFile(process.logFile, 'utf8')).split('\n'),
      [Symbol.asyncDispose]: async () => {
        await process.stop()
        await rm(folder, { recursive: true, force: true })
      },
    }
  } catch (cause) {
    await rm(folder, { recursive: true, force: true })
    throw cause
  }
}

function block(kind: ListenerKind, address: string, more: string): string {
  const files = 'cert_file: "tls.crt", key_file: "tls.key", ca_file: "ca.pem"'
  const tls = `tls: { ${files}, verify: true\n ${more}\n }`
  switch (kind) {
    case 'client':
      return `listen: "${address}"\n${tls}`
    case 'monitoring':
      return `https: "${address}"`
    case 'leafnode':
      return `leafnodes { listen: "${address}"\n ${tls} }`
    case 'mqtt':
      return `jetstream { store_dir: "jetstream" }\nmqtt { listen: "${address}"\n ${tls} }`
    case 'cluster':
    case 'gateway':
    case 'websocket':
      return `${kind} { ${kind === 'websocket' ? '' : 'name: here,'} listen: "${address}"\n ${tls} }`
  }
}
