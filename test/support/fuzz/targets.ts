/** Everything that reads what a stranger can send or leave behind, with valid samples to begin with. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { acceptBundle } from '../../../src/bundle/accept.ts'
import { openEnvelope, signBundle } from '../../../src/bundle/envelope.ts'
import { readAgentConfig, readIssuerConfig } from '../../../src/domain/config.ts'
import { generationManifest, hashesOf } from '../../../src/identity/manifest.ts'
import { checkMaterial } from '../../../src/identity/material.ts'
import { readIdentity } from '../../../src/identity/read.ts'
import { readState } from '../../../src/identity/state.ts'
import { parseAddress } from '../../../src/probe/address.ts'
import { findServer, parseInfo } from '../../../src/probe/server-facts.ts'
import { advance, bootstrap } from '../../../src/rotation/advance.ts'
import { rotationState } from '../../../src/rotation/state.ts'
import { formatInstant, parseDuration } from '../../../src/time.ts'
import { parseCertificates } from '../../../src/trust/certificate.ts'
import { verifyLeaf } from '../../../src/trust/chain.ts'
import { makeCsr, parseCsr } from '../../../src/trust/csr.ts'
import { generateKeyPair, privateKeyFromPem, privateKeyToPem } from '../../../src/trust/keys.ts'
import { openProof, proveClaims } from '../../../src/trust/proof.ts'
import { decodeRecord } from '../../../src/wire/record.ts'
import { issuerReport } from '../../../src/wire/report.ts'
import { order, orderAnswer, signAnswer, turnAnswer, turnRequest } from '../../../src/wire/requests.ts'
import { agentStatus } from '../../../src/wire/status.ts'
import { genesis, order as orderOf, status } from '../rotation-world.ts'
import { makeTestDomain } from '../test-domain.ts'
import type { Form } from './mutate.ts'

export interface FuzzTarget {
  readonly name: string
  readonly form: Form
  readonly samples: readonly Buffer[]
  /** Codes it may refuse with. */
  readonly codes: RegExp
  /** Throws a RotorError for what is wrong, and nothing else for anything. */
  readonly run: (input: Buffer) => unknown
  /** One input takes far longer than with the others. */
  readonly slow?: boolean
  /** Texts that no message may repeat. */
  readonly secrets?: readonly string[]
}

export interface FuzzTargets extends AsyncDisposable {
  readonly targets: readonly FuzzTarget[]
}

const NOW = Date.UTC(2026, 10, 22, 12)

const INFO = {
  server_id: 'NABC',
  server_name: 'n1',
  version: '2.11.4',
  proto: 1,
  headers: true,
  host: '127.0.0.1',
  port: 4222,
  tls_required: true,
  tls_verify: true,
  max_payload: 1_048_576,
  connect_urls: ['127.0.0.1:4222'],
}

const AGENT_CONFIG = {
  domain: 'prod',
  agent: 'orders',
  role: 'service',
  identity: 'identity',
  servers: ['tls://127.0.0.1:4222'],
  names: { dns: ['orders.local'], ip: ['127.0.0.1'] },
  targets: [{ type: 'signal', pidFile: 'pid' }],
}

const ISSUER_CONFIG = {
  domain: 'prod',
  name: 'issuer',
  keys: 'keys',
  identity: 'identity',
  servers: ['tls://127.0.0.1:4222'],
  agents: [
    { name: 'issuer', role: 'issuer' },
    { name: 'n1', role: 'server', listeners: [{ kind: 'client', address: '127.0.0.1:4222' }] },
  ],
}

const text = (...values: readonly string[]): Buffer[] => values.map((value) => Buffer.from(value))
const records = (...values: readonly object[]): Buffer[] =>
  values.map((value) => Buffer.from(JSON.stringify(value)))

/** Makes a domain with its keys; disposing of the targets removes the folder they write to. */
export async function makeTargets(): Promise<FuzzTargets> {
  const folder = await mkdtemp(join(tmpdir(), 'rotor-fuzz-'))
  const domain = await makeTestDomain({ domain: 'prod', now: NOW })
  const bundle = await domain.bundle()
  const founding = await domain.bundle({ authorities: [domain.entry(domain.authority())] })
  const next = await domain.bundle({}, { after: bundle })
  const leaf = await domain.leaf({ name: 'orders' })
  const accept = { domain: 'prod', pinned: [domain.signer.key], held: null, highest: 0, now: NOW }
  const anchors = domain.authorities.map(({ certificate }) => certificate)
  const ca = anchors.map(({ pem }) => pem).join('')
  const material = { key: leaf.keyPem, certificate: leaf.chainPem, ca }
  const secrets = [leaf.keyPem.split('\n')[1] ?? '']
  const rsa = await generateKeyPair('RSA-3072')
  const csr = await makeCsr(leaf.keyPair, {
    subject: 'orders',
    dns: ['localhost'],
    ip: ['::1'],
    uri: ['spiffe://prod/orders'],
  })
  const claims = {
    v: 1 as const,
    domain: 'prod',
    agent: 'orders',
    csr,
    epoch: domain.epoch,
    at: formatInstant(NOW),
  }
  const proof = await proveClaims(claims, leaf.privateKey, leaf.chain)
  const manifest = {
    v: 1,
    version: 3,
    digest: bundle.digest,
    epoch: domain.epoch,
    leaf: leaf.certificate.sha256,
    notAfter: formatInstant(leaf.certificate.notAfter),
    createdAt: formatInstant(NOW),
    files: hashesOf(material),
  }
  const state = {
    v: 1,
    domain: 'prod',
    agent: 'orders',
    highest: { version: 1, digest: bundle.digest },
    signers: [domain.signer.key],
    roots: [domain.root.certificate.pem],
    envelope: Buffer.from(bundle.envelope).toString(),
    proven: { version: 1, digest: bundle.digest, generation: '1-1' },
  }
  const rotation = genesis(104)
  const file = async (name: string, bytes: Buffer): Promise<string> => {
    await writeFile(join(folder, name), bytes)
    return join(folder, name)
  }
  const parts = (input: Buffer): [string, string] => {
    const [first = '', ...rest] = input.toString('latin1').split('\u0001')
    return [first, rest.join('')]
  }
  const record = (name: string, schema: z.ZodType, ...samples: readonly object[]): FuzzTarget => ({
    name,
    form: 'json',
    samples: records(...samples),
    codes: /^ERR_RECORD_INVALID$/,
    run: (input) => decodeRecord(schema, input, name),
  })
  /** Named by its true fingerprint, so that more than that is looked at. */
  const acceptAuthority = async (certificate: string) => {
    const der = Buffer.from(certificate.replace(/-----[^-]*-----/g, ''), 'base64')
    const sha256 = createHash('sha256').update(der).digest('hex')
    const entry = { epoch: domain.epoch, status: 'active' as const, certificate, sha256 }
    return acceptBundle((await domain.bundle({ authorities: [entry] })).envelope, accept)
  }
  const serverTime = formatInstant(NOW)
  const refusal = { ok: false, code: 'ERR_SIGN_BUSY', message: 'later', retryAfter: 500, serverTime }

  const targets: FuzzTarget[] = [
    {
      name: 'bundle envelope',
      form: 'json',
      samples: [Buffer.from(bundle.envelope), Buffer.from(next.envelope)],
      codes: /^ERR_(?:BUNDLE_\w+|CLOCK_SKEW)$/,
      run: (input) => acceptBundle(input, accept),
    },
    {
      name: 'bundle payload, signed',
      form: 'json',
      samples: text(bundle.text, next.text),
      codes: /^ERR_(?:BUNDLE_\w+|CLOCK_SKEW)$/,
      run: async (input) => acceptBundle(await signBundle(input.toString('utf8'), [domain.signer]), accept),
    },
    {
      name: 'bundle payload, signed, for who holds the one before',
      form: 'json',
      samples: text(next.text),
      codes: /^ERR_(?:BUNDLE_\w+|CLOCK_SKEW)$/,
      run: async (input) => {
        const held = { version: 1, digest: bundle.digest, roots: [domain.root.certificate.pem] }
        const signed = await signBundle(input.toString('utf8'), [domain.signer])
        return acceptBundle(signed, { ...accept, held, highest: 1 })
      },
    },
    {
      name: 'authority in a bundle',
      form: 'pem',
      samples: text(domain.authority().certificate.pem, domain.root.certificate.pem, leaf.certificate.pem),
      codes: /^ERR_BUNDLE_\w+$/,
      run: (input) => acceptAuthority(input.toString('latin1')),
    },
    {
      name: 'root in a bundle',
      form: 'pem',
      samples: text(domain.root.certificate.pem, domain.authority().certificate.pem),
      codes: /^ERR_BUNDLE_\w+$/,
      run: async (input) =>
        acceptBundle((await domain.bundle({ roots: [input.toString('latin1')] })).envelope, accept),
    },
    {
      name: 'signing request (PKCS #10) in PEM',
      form: 'pem',
      samples: text(csr, await makeCsr(rsa, { subject: 'x' })),
      codes: /^ERR_SIGN_(?:MALFORMED|REFUSED)$/,
      run: (input) => parseCsr(input.toString('utf8')),
    },
    {
      name: 'proof (compact JWS)',
      form: 'jws',
      samples: text(proof),
      codes: /^ERR_SIGN_(?:MALFORMED|PROOF)$/,
      run: (input) => openProof(input, anchors, NOW, domain.schedule.lead),
    },
    {
      name: 'claims of a proof, signed',
      form: 'json',
      samples: records(claims),
      codes: /^ERR_SIGN_(?:MALFORMED|PROOF)$/,
      run: async (input) => {
        const signed = await proveClaims(claims, leaf.privateKey, leaf.chain)
        const [header = '', , signature = ''] = signed.split('.')
        const forged = [header, input.toString('base64url'), signature].join('.')
        return openProof(Buffer.from(forged), anchors, NOW, domain.schedule.lead)
      },
    },
    {
      name: 'certificate chain in PEM',
      form: 'pem',
      samples: text(leaf.chainPem, ca),
      codes: /^ERR_IDENTITY_INVALID$/,
      run: (input) => verifyLeaf(parseCertificates(input.toString('utf8'), 'chain'), anchors, NOW),
    },
    {
      name: 'private key in PEM',
      form: 'pem',
      samples: text(leaf.keyPem, privateKeyToPem(leaf.privateKey, 'secret')),
      codes: /^ERR_(?:IDENTITY_INVALID|AUTHORITY_LOCKED)$/,
      run: (input) => privateKeyFromPem(input.toString('utf8')),
      secrets,
    },
    {
      name: 'identity of three files',
      form: 'pem',
      samples: text(leaf.keyPem + leaf.chainPem),
      codes: /^ERR_IDENTITY_(?:INVALID|MISSING)$/,
      secrets,
      run: (input) => {
        const all = input.toString('latin1')
        const end = all.indexOf('-----BEGIN CERTIFICATE')
        checkMaterial({ ca, key: all.slice(0, end), certificate: all.slice(end) }, NOW)
      },
    },
    {
      name: 'identity files on disk',
      form: 'pem',
      samples: text(`${leaf.keyPem}\u0001${leaf.chainPem}`),
      codes: /^ERR_IDENTITY_\w+$/,
      slow: true,
      secrets,
      run: async (input) => {
        const [key, certificate] = parts(input)
        await file('ca.pem', Buffer.from(ca))
        await file('tls.key', Buffer.from(key))
        await file('tls.crt', Buffer.from(certificate))
        // what never fits is read again for half a second: an aborted wait is the same answer, sooner
        const stop = new AbortController()
        setTimeout(() => stop.abort(), 40)
        await readIdentity(folder, NOW, { signal: stop.signal, keyMode: 'any' }).catch((cause) => {
          if (!stop.signal.aborted) throw cause
        })
      },
    },
    record('manifest of a generation', generationManifest, manifest),
    {
      name: 'state.json of an agent',
      form: 'json',
      samples: records(state),
      codes: /^ERR_RECORD_INVALID$/,
      run: async (input) => {
        await file('state.json', input)
        await readState(folder)
      },
    },
    record('status of an agent', agentStatus, status(rotation), {
      ...status(rotation),
      lastError: { code: 'ERR_PROOF_FAILED', message: 'x', at: serverTime, version: 2 },
    }),
    record('turn request', turnRequest, { v: 1, agent: 'n1', version: 2, op: 'release', outcome: 'applied' }),
    record('turn answer', turnAnswer, { ok: true, serverTime }, refusal),
    record('order', order, orderOf(true, NOW)),
    record('order answer', orderAnswer, { ok: true, serverTime }, refusal),
    record('sign answer', signAnswer, { ok: true, epoch: 5, chain: leaf.chainPem, serverTime }, refusal),
    record('report of an issuer', issuerReport, {
      v: 1,
      at: serverTime,
      version: 3,
      phase: 'steady',
      reason: 'not-due',
      since: serverTime,
      waitingFor: [{ name: 'n1', kind: 'agent', missing: 'never reported' }],
      servers: [],
    }),
    {
      name: 'rotation state',
      form: 'json',
      samples: records(rotation),
      codes: /^ERR_(?:RECORD_INVALID|STATE_CONFLICT|AUTHORITY_MISSING)$/,
      run: (input) => {
        const stored = decodeRecord(rotationState, input, 'rotation state')
        advance(stored, { held: [], roots: [], signedBy: {}, published: 1, agents: [], servers: [] }, {}, NOW)
      },
    },
    {
      name: 'first bundle of a domain',
      form: 'json',
      samples: text(founding.text),
      codes: /^ERR_RECORD_INVALID$/,
      run: (input) => bootstrap({ domain: 'prod', payload: input.toString('utf8'), fence: 0 }, NOW),
    },
    {
      name: 'INFO of a server',
      form: 'json',
      samples: records(INFO, { ...INFO, gateway: 'east' }),
      codes: /^ERR_PROBE_PROTOCOL$/,
      run: (input) => parseInfo(input.toString('utf8'), 'n1'),
    },
    {
      name: '/varz of a server',
      form: 'text',
      samples: text(JSON.stringify(INFO, null, 2)),
      codes: /^ERR_PROBE_PROTOCOL$/,
      run: (input) => findServer(input.toString('utf8')),
    },
    {
      name: 'agent.json',
      form: 'json',
      samples: records(AGENT_CONFIG),
      codes: /^ERR_CONFIG_INVALID$/,
      run: async (input) => readAgentConfig(await file('agent.json', input)),
    },
    {
      name: 'issuer.json',
      form: 'json',
      samples: records(ISSUER_CONFIG),
      codes: /^ERR_CONFIG_INVALID$/,
      run: async (input) => readIssuerConfig(await file('issuer.json', input)),
    },
    {
      name: 'duration',
      form: 'text',
      samples: text('1h30m', '250ms', '0.5d'),
      codes: /^ERR_CONFIG_INVALID$/,
      run: (input) => parseDuration(input.toString('utf8')),
    },
    {
      name: 'address',
      form: 'text',
      samples: text('tls://user:pw@host:4222', '[::1]:4222', '127.0.0.1:1'),
      codes: /^ERR_CONFIG_INVALID$/,
      run: (input) => parseAddress(input.toString('utf8')),
    },
    {
      name: 'envelope alone',
      form: 'json',
      samples: [Buffer.from(bundle.envelope)],
      codes: /^ERR_BUNDLE_(?:MALFORMED|TOO_LARGE)$/,
      run: (input) => openEnvelope(input).verify(domain.signer.key),
    },
  ]
  return { targets, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}
