/** A trust domain for tests: root, authorities, leaves and signed bundles, all made in memory on the spot. */
import { generateSigner, type Signer, signBundle } from '../../src/bundle/envelope.ts'
import { encodePayload, payloadDigest } from '../../src/bundle/payload.ts'
import { HeldIdentity } from '../../src/identity/identity.ts'
import {
  type Epoch,
  epochAt,
  epochEnd,
  epochStart,
  leafLifetime,
  makeSchedule,
  type Schedule,
} from '../../src/schedule.ts'
import { formatInstant, type Instant } from '../../src/time.ts'
import { type Certificate, parseCertificate } from '../../src/trust/certificate.ts'
import { issueAuthority, issueLeaf, issueRoot, type KeyedCertificate } from '../../src/trust/issue.ts'
import { generateKeyPair, type KeyAlgorithm, type KeyPair, privateKeyToPem } from '../../src/trust/keys.ts'
import type { AuthorityStatus, BundleAuthority, BundlePayload } from '../../src/wire/bundle.ts'

export interface TestDomainOptions {
  /** @default 'test' */
  readonly domain?: string
  /** @default the defaults of makeSchedule */
  readonly schedule?: Partial<Schedule>
  /** Epochs with an authority from the start. @default the one before `now` and the one of `now` */
  readonly epochs?: readonly Epoch[]
  /** @default the time of this machine */
  readonly now?: Instant
  /** Of root and authorities. @default 'P-256' */
  readonly algorithm?: KeyAlgorithm
}

export interface TestAuthority extends KeyedCertificate {
  readonly epoch: Epoch
  readonly keyPair: KeyPair
}

export interface TestLeafOptions {
  /** Epoch of the issuing authority. @default the epoch of `now` */
  readonly epoch?: Epoch
  /** Common name; also the SPIFFE ID when no `uri` is given. @default 'agent' */
  readonly name?: string
  /** @default ['localhost'] */
  readonly dns?: readonly string[]
  /** @default ['127.0.0.1'] */
  readonly ip?: readonly string[]
  readonly uri?: readonly string[]
  /** @default 'P-256' */
  readonly algorithm?: KeyAlgorithm
  /** @default lead before the domain's `now` */
  readonly notBefore?: Instant
  /** @default the domain's `now` + leafLifetime */
  readonly notAfter?: Instant
}

export interface TestLeaf extends KeyedCertificate {
  readonly keyPair: KeyPair
  /** PKCS #8 in PEM. */
  readonly keyPem: string
  /** Leaf, authority. */
  readonly chain: readonly Certificate[]
  readonly chainPem: string
}

export interface TestBundle {
  readonly payload: BundlePayload
  readonly text: string
  readonly digest: string
  /** The signed bytes. */
  readonly envelope: Uint8Array
}

export interface BundleOptions {
  /** The bundle this one follows: gives version and `previous`. @default none, so this is version 1 */
  readonly after?: TestBundle
  /** Who signs. @default the signer of the domain */
  readonly by?: readonly Signer[]
}

export class TestDomain {
  readonly domain: string
  readonly schedule: Schedule
  readonly now: Instant
  readonly algorithm: KeyAlgorithm
  readonly root: Omit<TestAuthority, 'epoch'>
  readonly signer: Signer
  /** Oldest first. */
  readonly authorities: TestAuthority[] = []

  constructor(parts: Pick<TestDomain, 'domain' | 'schedule' | 'now' | 'algorithm' | 'root' | 'signer'>) {
    this.domain = parts.domain
    this.schedule = parts.schedule
    this.now = parts.now
    this.algorithm = parts.algorithm
    this.root = parts.root
    this.signer = parts.signer
  }

  /** The epoch of the domain's `now`: the signing one of its bundles. */
  get epoch(): Epoch {
    return epochAt(this.schedule, this.now)
  }

  authority(epoch: Epoch = this.epoch): TestAuthority {
    const found = this.authorities.find((authority) => authority.epoch === epoch)
    if (found === undefined) throw new TypeError(`the test domain has no authority of epoch ${epoch}`)
    return found
  }

  /**
   * Makes an authority; part of all later bundles. Its window ends with its epoch's and begins the lead before its
   * epoch, or before `now` when it is made earlier.
   */
  async addAuthority(
    epoch: Epoch,
    window: Partial<Record<'notBefore' | 'notAfter', Instant>> = {},
  ): Promise<TestAuthority> {
    const keyPair = await generateKeyPair(this.algorithm)
    const pem = await issueAuthority({
      domain: this.domain,
      epoch,
      keyPair,
      root: this.root,
      notBefore:
        window.notBefore ?? Math.min(epochStart(this.schedule, epoch), this.now) - this.schedule.lead,
      notAfter: window.notAfter ?? epochEnd(this.schedule, epoch),
    })
    const certificate = parseCertificate(pem, `authority of epoch ${epoch}`)
    const made = { epoch, keyPair, privateKey: keyPair.privateKey, certificate }
    this.authorities.push(made)
    this.authorities.sort((a, b) => a.epoch - b.epoch)
    return made
  }

  async leaf(options: TestLeafOptions = {}): Promise<TestLeaf> {
    const authority = this.authority(options.epoch)
    const { name = 'agent', dns = ['localhost'], ip = ['127.0.0.1'] } = options
    const keyPair = await generateKeyPair(options.algorithm)
    const pem = await issueLeaf({
      authority,
      publicKey: keyPair.publicKey,
      commonName: name,
      names: { dns, ip, uri: options.uri ?? [`spiffe://${this.domain}/${name}`] },
      notBefore: options.notBefore ?? this.now - this.schedule.lead,
      notAfter: options.notAfter ?? this.now + leafLifetime(this.schedule),
    })
    const certificate = parseCertificate(pem, `leaf ${name}`)
    return {
      certificate,
      keyPair,
      privateKey: keyPair.privateKey,
      keyPem: privateKeyToPem(keyPair.privateKey),
      chain: [certificate, authority.certificate],
      chainPem: certificate.pem + authority.certificate.pem,
    }
  }

  /** An authority as a bundle lists it. @default status: by its epoch, next to the domain's */
  entry(authority: Pick<TestAuthority, 'epoch' | 'certificate'>, status?: AuthorityStatus): BundleAuthority {
    const { epoch, certificate } = authority
    const byEpoch = epoch === this.epoch ? 'active' : epoch < this.epoch ? 'retiring' : 'prepared'
    return { epoch, status: status ?? byEpoch, certificate: certificate.pem, sha256: certificate.sha256 }
  }

  /** A valid payload of everything the domain has, changed by `overrides`. */
  payload(overrides: Partial<BundlePayload> = {}, after?: TestBundle): BundlePayload {
    return {
      v: 1,
      domain: this.domain,
      version: (after?.payload.version ?? 0) + 1,
      epoch: this.epoch,
      issuedAt: formatInstant(this.now),
      expiresAt: formatInstant(this.now + this.schedule.validity),
      previous: after?.digest ?? null,
      reason: 'test',
      authorities: this.authorities.map((authority) => this.entry(authority)),
      roots: [this.root.certificate.pem],
      signers: [this.signer.key],
      schedule: { ...this.schedule, epochZero: formatInstant(this.schedule.epochZero) },
      ...overrides,
    }
  }

  /** A signed bundle; with `overrides` also one that no agent should accept, as long as it fits the schema. */
  async bundle(overrides: Partial<BundlePayload> = {}, options: BundleOptions = {}): Promise<TestBundle> {
    const payload = this.payload(overrides, options.after)
    const text = encodePayload(payload)
    const envelope = await signBundle(text, options.by ?? [this.signer])
    return { payload, text, digest: payloadDigest(text), envelope }
  }
}

/** What a node with this leaf holds, that trusts one authority. */
export const identityOf = (leaf: TestLeaf, trusted: Certificate): HeldIdentity =>
  new HeldIdentity({
    key: leaf.keyPem,
    certificate: leaf.chainPem,
    ca: trusted.pem,
    leaf: leaf.certificate,
    generation: '1',
    version: 1,
  })

export async function makeTestDomain(options: TestDomainOptions = {}): Promise<TestDomain> {
  const { domain = 'test', now = Date.now(), algorithm = 'P-256' } = options
  const schedule = makeSchedule(options.schedule)
  const newest = epochAt(schedule, now)
  const epochs = options.epochs ?? [newest - 1, newest]
  const keyPair = await generateKeyPair(algorithm)
  const pem = await issueRoot({
    domain,
    keyPair,
    notBefore: epochStart(schedule, Math.min(newest, ...epochs)) - schedule.lead,
    notAfter: epochEnd(schedule, Math.max(newest, ...epochs)) + 100 * schedule.validity,
  })
  const certificate = parseCertificate(pem, 'root')
  const root = { keyPair, privateKey: keyPair.privateKey, certificate }
  const made = new TestDomain({ domain, schedule, now, algorithm, root, signer: await generateSigner() })
  for (const epoch of epochs) await made.addAuthority(epoch)
  return made
}
