/** Tokens of a real OpenBao: how the issuer gets one, keeps it, gets another one, and gives it back. */
import assert from 'node:assert/strict'
import { createSign, generateKeyPairSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { VaultAuth } from '../../src/domain/vault-config.ts'
import { RotorError } from '../../src/errors.ts'
import { exchange } from '../../src/http-exchange.ts'
import { type EngineDomain, TestEngine } from '../support/engine.ts'
import { eventually } from '../support/eventually.ts'
import { makeTestDomain } from '../support/test-domain.ts'

const ROLE = 'auth/approle/role/rotor-test'
/** A path that the policy of the issuer allows. */
const ALLOWED = 'authorities-test/issuers'

describe('the login at OpenBao', () => {
  let engine: TestEngine
  let vault: EngineDomain
  before(async () => {
    engine = await TestEngine.start()
    vault = await engine.domain('test')
  })
  after(() => engine[Symbol.asyncDispose]())

  const accessors = async () => (await engine.root.list('auth/token/accessors')).length
  const secretFile = async (name: string, text: string): Promise<string> => {
    const file = join(engine.bao.dir, name)
    await writeFile(file, text, { mode: 0o600 })
    return file
  }
  const approle = (change: object): VaultAuth => ({ ...vault.config.auth, ...change }) as VaultAuth
  const newSecretId = async (data: Record<string, unknown> = {}): Promise<string> =>
    String((await engine.root.write(`${ROLE}/secret-id`, data)).secret_id)
  const denied =
    (...words: RegExp[]) =>
    (cause: unknown): boolean => {
      assert.ok(RotorError.is(cause))
      assert.equal(cause.code, 'ERR_AUTHORITY_DENIED')
      for (const word of words) assert.match(cause.message, word)
      return true
    }

  test('happens at the first call, once for all that come together', async () => {
    const client = await vault.open()
    const before = await accessors()
    assert.equal(client.state().status, 'new')
    await Promise.all([client.list(ALLOWED), client.list(ALLOWED), client.list(ALLOWED)])
    assert.equal(await accessors(), before + 1)
    const { status, tokenEnds } = client.state()
    assert.equal(status, 'ready')
    assert.ok((tokenEnds ?? 0) > Date.now() + 3_000_000)
  })

  test('ends with the client: the token is revoked', async () => {
    const before = await accessors()
    const client = await vault.open()
    await client.list(ALLOWED)
    assert.equal(await accessors(), before + 1)
    await client.close()
    assert.equal(await accessors(), before)
    await assert.rejects(client.list(ALLOWED), { code: 'ERR_ABORTED' })
  })

  test('is made again when the token is gone, and the call that found it succeeds', async () => {
    const client = await vault.open()
    await client.list(ALLOWED)
    for (const accessor of await engine.root.list('auth/token/accessors')) {
      const { path } = await engine.root.write('auth/token/lookup-accessor', { accessor })
      if (path === 'auth/approle/login') await engine.root.write('auth/token/revoke-accessor', { accessor })
    }
    assert.deepEqual(await client.list(ALLOWED), [])
    assert.equal(client.state().status, 'ready')
  })

  test('is not made again for what the policy forbids', async () => {
    const client = await vault.open()
    await client.list(ALLOWED)
    const before = await accessors()
    await assert.rejects(client.read('sys/mounts'), denied(/sys\/mounts/, /permission denied/))
    assert.equal(await accessors(), before)
  })

  test('is renewed before it ends: one login outlives its time', async () => {
    await engine.root.write(ROLE, { token_ttl: 3, token_max_ttl: 3600 })
    try {
      await engine.root.write(ROLE, { secret_id_num_uses: 1 })
      const secretIdFile = await secretFile('for-one-login', await newSecretId())
      const client = await vault.open({ auth: approle({ secretIdFile }) })
      await client.list(ALLOWED)
      const first = client.state().tokenEnds ?? 0
      // the secret id can not be used a second time, so only a renewal moves the end
      await eventually(() => (client.state().tokenEnds ?? 0) > first + 2_000)
      assert.deepEqual(await client.list(ALLOWED), [])
    } finally {
      await engine.root.write(ROLE, { token_ttl: 3600, token_max_ttl: 86_400, secret_id_num_uses: 0 })
    }
  })

  test('is made anew in time for a batch token, which nobody can renew', async () => {
    await engine.root.write(ROLE, { token_ttl: 3, token_type: 'batch' })
    try {
      const client = await vault.open()
      await client.list(ALLOWED)
      const first = client.state().tokenEnds ?? 0
      await eventually(() => (client.state().tokenEnds ?? 0) > first + 2_000)
      assert.equal(client.state().status, 'ready')
      assert.deepEqual(await client.list(ALLOWED), [])
    } finally {
      await engine.root.write(ROLE, { token_ttl: 3600, token_type: 'default' })
    }
  })

  test('that is refused says so, shows no secret, and is not repeated at once', async () => {
    const secret = 'c0ffee00-0000-4000-8000-00000000dead'
    const client = await vault.open({ auth: approle({ secretIdFile: await secretFile('wrong', secret) }) })
    await assert.rejects(client.list(ALLOWED), (cause: Error) => {
      assert.ok(!JSON.stringify([cause.message, cause.stack, cause]).includes(secret))
      return denied(/auth\/approle\/login/, /invalid role or secret ID/)(cause)
    })
    assert.equal(client.state().status, 'waiting')
    assert.equal(client.state().error?.code, 'ERR_AUTHORITY_DENIED')
    await assert.rejects(client.list(ALLOWED), { code: 'ERR_AUTHORITY_DENIED' })
    // with a good secret id it goes on by itself, a little later
    await secretFile('wrong', await newSecretId())
    await eventually(() => client.list(ALLOWED).then(() => true))
    assert.equal(client.state().error, null)
  })

  test('needs its files: one that is missing or empty is named', async () => {
    const missing = await vault.open({ auth: approle({ roleIdFile: join(engine.bao.dir, 'nowhere') }) })
    await assert.rejects(missing.list(ALLOWED), denied(/roleIdFile/, /nowhere/))
    const empty = await vault.open({ auth: approle({ secretIdFile: await secretFile('empty', '\n') }) })
    await assert.rejects(empty.list(ALLOWED), denied(/secretIdFile/, /empty/))
  })

  describe('with a secret id in a wrapping token', () => {
    const wrapped = async (path: string, data: object = {}): Promise<string> => {
      const { text } = await exchange({
        url: `${engine.bao.address}/v1/${path}`,
        method: 'POST',
        headers: { 'x-vault-token': engine.bao.rootToken, 'x-vault-wrap-ttl': '60s' },
        json: data,
        timeout: 10_000,
        maxAnswer: 65_536,
      })
      return JSON.parse(text).wrap_info.token
    }

    test('unwraps it once and logs in again with what was in it', async () => {
      const secretIdFile = await secretFile('wrapped', await wrapped(`${ROLE}/secret-id`))
      await engine.root.write(ROLE, { token_ttl: 2, token_type: 'batch' })
      try {
        const client = await vault.open({ auth: approle({ secretIdFile, wrappedBy: `${ROLE}/secret-id` }) })
        await client.list(ALLOWED)
        const first = client.state().tokenEnds ?? 0
        await eventually(() => (client.state().tokenEnds ?? 0) > first + 1_000)
      } finally {
        await engine.root.write(ROLE, { token_ttl: 3600, token_type: 'default' })
      }
    })

    test('refuses a token that was used before: somebody else may know what was in it', async () => {
      const token = await wrapped(`${ROLE}/secret-id`)
      const auth = approle({
        secretIdFile: await secretFile('stolen', token),
        wrappedBy: `${ROLE}/secret-id`,
      })
      await (await vault.open({ auth })).list(ALLOWED)
      const late = await vault.open({ auth })
      await assert.rejects(late.list(ALLOWED), denied(/used already or has ended/))
    })

    test('refuses what another path wrapped, and does not open it', async () => {
      const token = await wrapped('sys/wrapping/wrap', { secret_id: await newSecretId() })
      const auth = approle({
        secretIdFile: await secretFile('foreign', token),
        wrappedBy: `${ROLE}/secret-id`,
      })
      const client = await vault.open({ auth })
      await assert.rejects(client.list(ALLOWED), denied(/secret-id/, /sys\/wrapping\/wrap/))
      const still = await exchange({
        url: `${engine.bao.address}/v1/sys/wrapping/unwrap`,
        method: 'POST',
        headers: { 'x-vault-token': token },
        timeout: 10_000,
        maxAnswer: 65_536,
      })
      assert.equal(still.status, 200)
    })
  })

  test('with a token file reads the file again when the token has ended, and leaves it to its owner', async () => {
    const token = async () => {
      const made = await engine.root.write(`${ROLE}/secret-id`)
      const { text } = await exchange({
        url: `${engine.bao.address}/v1/auth/approle/login`,
        method: 'POST',
        json: {
          role_id: (await engine.root.read(`${ROLE}/role-id`))?.role_id,
          secret_id: made.secret_id,
        },
        timeout: 10_000,
        maxAnswer: 65_536,
      })
      return String(JSON.parse(text).auth.client_token)
    }
    const first = await token()
    const tokenFile = await secretFile('token', `${first}\n`)
    const client = await vault.open({ auth: { method: 'token', tokenFile } })
    await client.list(ALLOWED)
    await engine.root.write('auth/token/revoke', { token: first })
    const second = await token()
    await secretFile('token', second)
    await client.list(ALLOWED)
    await client.close()
    assert.ok(await engine.root.write('auth/token/lookup', { token: second }))
  })

  test('as a Kubernetes service account sends the token of this moment', async () => {
    await using cluster = await startTokenReviews()
    await engine.root.write('sys/auth/kubernetes', { type: 'kubernetes' })
    await engine.root.write('auth/kubernetes/config', {
      kubernetes_host: cluster.url,
      kubernetes_ca_cert: cluster.ca,
      token_reviewer_jwt: 'reviewer',
      disable_local_ca_jwt: true,
    })
    await engine.root.write('auth/kubernetes/role/issuer', {
      bound_service_account_names: ['issuer'],
      bound_service_account_namespaces: ['rotor'],
      token_policies: ['rotor-test'],
      token_ttl: 2,
      token_type: 'batch',
    })
    const jwtFile = await secretFile('jwt', serviceAccountToken(1))
    const auth: VaultAuth = { method: 'kubernetes', mount: 'kubernetes', role: 'issuer', jwtFile }
    const client = await vault.open({ auth })
    assert.deepEqual(await client.list(ALLOWED), [])
    await secretFile('jwt', serviceAccountToken(2))
    await eventually(() => cluster.reviewed.size === 2)
    const other = await vault.open({ auth: { ...auth, jwtFile: await secretFile('bad', 'no.jwt') } })
    await assert.rejects(other.list(ALLOWED), { code: /^ERR_AUTHORITY_/ })
  })
})

const NAMESPACE = { namespace: 'rotor', serviceaccount: { name: 'issuer', uid: 'u-1' } }

/** What the kubelet gives a pod: the login looks at its claims, and a cluster at the rest. */
function serviceAccountToken(id: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const now = Math.floor(Date.now() / 1000)
  const text = [
    part({ alg: 'RS256', kid: 'k' }),
    part({
      iss: 'https://kubernetes.default.svc',
      sub: 'system:serviceaccount:rotor:issuer',
      jti: String(id),
      iat: now,
      nbf: now,
      exp: now + 3600,
      'kubernetes.io': NAMESPACE,
    }),
  ].join('.')
  return `${text}.${createSign('RSA-SHA256').update(text).sign(privateKey, 'base64url')}`
}

/** The one request that OpenBao makes to a cluster: it says yes to everybody. */
async function startTokenReviews() {
  const domain = await makeTestDomain()
  const leaf = await domain.leaf()
  const reviewed = new Set<string>()
  const server = createServer({ key: leaf.keyPem, cert: leaf.chainPem }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const review = JSON.parse(Buffer.concat(chunks).toString())
      reviewed.add(review.spec.token)
      const user = { username: 'system:serviceaccount:rotor:issuer', uid: 'u-1' }
      response.writeHead(201, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ ...review, status: { authenticated: true, user } }))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `https://127.0.0.1:${port}`,
    ca: domain.root.certificate.pem,
    reviewed,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
