/** A real OpenBao for the signing benchmark, with one authority: called through our adapter, and directly. */
import { Agent } from 'node:http'
import { join } from 'node:path'
import type { LeafRequest } from '../issuer/authority/authority.ts'
import { VaultAuthority } from '../issuer/authority/vault/authority.ts'
import { Vault } from '../issuer/authority/vault/client.ts'
import { issuerName } from '../issuer/authority/vault/names.ts'
import { applySetup, setupItems } from '../issuer/authority/vault/setup.ts'
import { vaultBlock } from '../src/domain/vault-config.ts'
import { exchange } from '../src/http-exchange.ts'
import { writeFileDurable } from '../src/identity/durable.ts'
import { startBao } from '../src/local/bao-server.ts'
import { silentLogger } from '../src/log.ts'
import { formatInstant } from '../src/time.ts'
import { BENCH_DOMAIN, benchTime } from './signing-stage.ts'

export interface SigningEngine extends AsyncDisposable {
  readonly version: string
  /** As an issuer does it. */
  throughUs(request: LeafRequest): Promise<void>
  /** The bare HTTP call with the same parameters; the certificate is taken out of the answer and not looked at. */
  directly(request: LeafRequest): Promise<void>
}

const HOUR = 3_600_000

export async function startSigningEngine(): Promise<SigningEngine> {
  await using opened = new AsyncDisposableStack()
  const bao = opened.use(await startBao({ dev: true }))
  const tokenFile = join(bao.dir, 'token')
  await writeFileDurable(tokenFile, bao.rootToken, 0o600)
  const config = vaultBlock.parse({ address: bao.address, auth: { method: 'token', tokenFile } })
  const client = opened.use(await Vault.open({ config, name: 'bench', logger: silentLogger }))
  const life = { skew: HOUR, rootLife: 1000 * HOUR, authorityLife: 100 * HOUR }
  await applySetup(client, setupItems({ config, domain: BENCH_DOMAIN, ...life }))
  const { mounts, role } = config
  const authority = new VaultAuthority({ client, domain: BENCH_DOMAIN, mounts, role })
  const { epoch, window } = benchTime()
  await authority.prepare(epoch, window)

  const agent = new Agent({ keepAlive: true })
  opened.defer(() => agent.destroy())
  const issuer = `${mounts.authorities}/issuer/${issuerName(BENCH_DOMAIN, epoch)}`
  // by id, as the adapter does it: a name would be looked up for each call
  const id = String((await client.read(issuer))?.issuer_id)
  const url = `${bao.address}/v1/${mounts.authorities}/issuer/${id}/sign/${role}`
  const stack = opened.move()
  return {
    version: bao.version,
    throughUs: async (request) => void (await authority.sign(epoch, request)),
    async directly({ csr, commonName, names, notAfter }) {
      const json = {
        csr: csr.pem,
        common_name: commonName,
        exclude_cn_from_sans: true,
        alt_names: names.dns.join(','),
        ip_sans: names.ip,
        uri_sans: names.uri,
        not_after: formatInstant(notAfter),
      }
      const headers = { 'x-vault-token': bao.rootToken }
      const sent = { url, method: 'POST', headers, json, agent, timeout: 20_000, maxAnswer: 65_536 }
      const { status, text } = await exchange(sent)
      if (status !== 200 || certificateIn(text) === undefined) throw new Error(`${url}: ${status} ${text}`)
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

const certificateIn = (text: string): string | undefined =>
  (JSON.parse(text) as { data?: { certificate?: string } }).data?.certificate
