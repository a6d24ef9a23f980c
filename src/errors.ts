/**
 * Every failure a user can meet: one class, one stable code each, and what to do about it.
 * `docs/errors.md` lists exactly these codes; a test compares the two.
 */

interface ErrorEntry {
  /** Exit code of the CLI when this ends a command (sysexits.h). */
  readonly exit: number
  readonly means: string
  readonly action: string
}

const entry = (exit: number, means: string, action: string): ErrorEntry => ({ exit, means, action })

export const ERRORS = {
  // configuration and use
  ERR_CONFIG_INVALID: entry(
    78,
    'the configuration does not fit its schema',
    'fix every key the message lists',
  ),
  ERR_USAGE: entry(64, 'the command line is wrong', 'see --help of the command'),
  ERR_BINARY_MISSING: entry(
    69,
    'a server binary was not found',
    'run `node scripts/setup.mjs`, or name it in the variable the message gives',
  ),

  // bundles: one code for each rule, in the order the rules are checked
  ERR_BUNDLE_TOO_LARGE: entry(
    65,
    'the bundle is larger than 256 KiB',
    'look at who may publish on the bundle subject',
  ),
  ERR_BUNDLE_MALFORMED: entry(
    65,
    'the bundle does not fit its schema',
    'look at who may publish on the bundle subject',
  ),
  ERR_BUNDLE_VERSION_UNKNOWN: entry(
    65,
    'the bundle has a format version we do not know',
    'update nats-rotor on this node',
  ),
  ERR_BUNDLE_SIGNATURE: entry(
    65,
    'no signature by a pinned signer over these bytes',
    'treat it as an attack until explained',
  ),
  ERR_BUNDLE_SIGNER_CHANGE: entry(
    65,
    'the bundle names new signers that have not signed it',
    'publish it signed by the old and by the new key',
  ),
  ERR_BUNDLE_DOMAIN: entry(
    65,
    'the bundle is for another trust domain',
    'check the domain in the configuration of both sides',
  ),
  ERR_BUNDLE_REPLAYED: entry(
    65,
    'the version is not greater than the highest accepted one',
    'treat it as an attack unless the stream was restored from a backup',
  ),
  ERR_BUNDLE_FORKED: entry(
    65,
    'the bundle does not follow the one we hold',
    'compare the histories: two issuers wrote different bundles',
  ),
  ERR_BUNDLE_EXPIRED: entry(
    65,
    'the bundle is past its expiresAt',
    'check that an issuer is running, and the clock of this node',
  ),
  ERR_BUNDLE_AUTHORITY: entry(
    65,
    'an authority in the bundle is not an acceptable CA certificate',
    'withdraw the bundle; the message names the authority',
  ),
  ERR_BUNDLE_CHAIN: entry(
    65,
    'an authority does not chain to a root of the bundle',
    'withdraw the bundle; the message names the authority',
  ),
  ERR_BUNDLE_KEY_REUSED: entry(
    65,
    'two certificates of the bundle share a key, or a root came back with its old key',
    'make a new key for each authority and root',
  ),
  ERR_BUNDLE_SIGNING_EPOCH: entry(
    65,
    'the signing epoch has no trusted authority in the bundle',
    'withdraw the bundle',
  ),
  ERR_BUNDLE_UNAVAILABLE: entry(
    69,
    'the bundle of --bundle can not be read or fetched',
    'check the path or address; `rotor bundle export` makes such a file',
  ),

  // identities and files
  ERR_IDENTITY_MISSING: entry(66, 'no identity in this directory', 'run `rotor init`, or check the path'),
  ERR_IDENTITY_INVALID: entry(
    65,
    'key, certificate and trust file are not one valid set',
    'the old set stays in use; the message names the file',
  ),
  ERR_IDENTITY_MODE: entry(
    77,
    'a private key is readable by others, or a directory has the wrong owner',
    'chmod 600 the key, check the owner',
  ),
  ERR_IDENTITY_WRITE: entry(
    74,
    'a generation could not be written',
    'check space, mode and owner of the path; the old one stays in use',
  ),
  ERR_IDENTITY_LOCKED: entry(
    75,
    'another agent works on this directory',
    'stop the other one; one agent per identity directory',
  ),
  ERR_IDENTITY_ENDED: entry(
    77,
    'the certificate of this node has ended, so no server takes it any more',
    'make a token with `rotor token create`, start the agent once with --join; check the clock of this node',
  ),

  // joining
  ERR_JOIN_TOKEN: entry(
    65,
    'the join token is damaged, or for another agent',
    'copy it whole, or make one with `rotor token create --agent NAME`',
  ),
  ERR_JOIN_REFUSED: entry(
    77,
    'the issuer does not take the join token: it was used, has ended or was revoked',
    'make a new one with `rotor token create`; the log of the issuer has the reason',
  ),
  ERR_JOIN_ENDPOINT: entry(
    76,
    'the join endpoint has another key than the token pins, or answers as no issuer would',
    'nothing was sent to it; treat another key as an attack until explained',
  ),
  ERR_JOIN_UNAVAILABLE: entry(
    69,
    'the join endpoint can not be reached, or has no time',
    'the token is as good as before: check the address, try again',
  ),
  ERR_AGENT_REMOVED: entry(
    77,
    'this agent was removed from the domain',
    'nothing; or let it join again with a new token',
  ),

  // signing
  ERR_SIGN_MALFORMED: entry(
    65,
    'the signing request does not fit its schema',
    'update nats-rotor on this node',
  ),
  ERR_SIGN_REFUSED: entry(
    77,
    'the request is outside the policy of this agent',
    'compare the agent with its entry in the issuer configuration',
  ),
  ERR_SIGN_PROOF: entry(77, 'the request is not proven by the current leaf key', 'enrol the agent again'),
  ERR_SIGN_BUSY: entry(
    75,
    'the issuer signs as fast as it may',
    'the agent tries again at the time the answer gives',
  ),

  // authority
  ERR_AUTHORITY_MISSING: entry(69, 'the issuer does not hold this authority', 'check the issuer directory'),
  ERR_AUTHORITY_LOCKED: entry(
    77,
    'the key store needs a passphrase or has another one',
    'give the passphrase file',
  ),
  ERR_AUTHORITY_UNAVAILABLE: entry(
    69,
    'OpenBao or Vault is sealed, slow or can not be reached',
    'nothing is lost: it is tried again; unseal it, or check its address',
  ),
  ERR_AUTHORITY_DENIED: entry(
    77,
    'OpenBao or Vault refuses this login or this call',
    'compare its policies with `rotor vault setup`; the message names the path',
  ),
  ERR_AUTHORITY_REFUSED: entry(
    74,
    'OpenBao or Vault refused what it was asked',
    'the message has its own words and the path',
  ),
  ERR_AUTHORITY_ANSWER: entry(
    76,
    'OpenBao or Vault answered with something else than it was asked for',
    'nothing of it is used; compare mounts and role with `rotor vault setup`',
  ),

  // NATS
  ERR_NATS_UNAVAILABLE: entry(
    69,
    'no answer from NATS',
    'nothing is lost: it is tried again; check the servers',
  ),
  ERR_NATS_DENIED: entry(77, 'NATS refuses this user', 'compare the accounts block with `rotor init`'),
  ERR_HANDOFF_FAILED: entry(
    75,
    'a connection could not be moved to the new certificate',
    'the old connection is in use and it is tried again; the message says which step failed',
  ),
  ERR_RECORD_INVALID: entry(
    65,
    'a stored record does not fit its schema or is from a newer version',
    'update nats-rotor, or restore the record',
  ),
  ERR_STATE_CONFLICT: entry(75, 'another issuer wrote the state first', 'nothing to do: it is read again'),

  // targets and probes
  ERR_TARGET_UNREACHABLE: entry(
    69,
    'the target of an agent can not be reached',
    'check its address or pid file',
  ),
  ERR_RELOAD_REFUSED: entry(
    74,
    'nats-server refused the reload and keeps its old configuration',
    'the message is the text of the server; the old files are back',
  ),
  ERR_NOTIFY_FAILED: entry(
    74,
    'the process could not be told',
    'check pid file or command; the old files are back',
  ),
  ERR_PROOF_FAILED: entry(
    74,
    'the target does not serve or accept the new material',
    'the old files are back; look at the log of the target',
  ),
  ERR_PROBE_UNREACHABLE: entry(69, 'no connection to the listener', 'check address and port'),
  ERR_PROBE_PROTOCOL: entry(
    76,
    'the listener does not speak as expected',
    'check that the port is the listener you named',
  ),
  ERR_PROBE_UNTRUSTED: entry(
    76,
    'the certificate of the listener does not verify',
    'compare its issuer with the trust file',
  ),
  ERR_PROBE_REFUSED: entry(
    77,
    'the listener refuses our certificate',
    'the server does not trust its issuer (yet, or any more)',
  ),

  // rotation
  ERR_TURN_REFUSED: entry(75, 'it is not the turn of this server', 'wait; `rotor status` names who has it'),
  ERR_ORDER_REFUSED: entry(75, 'the order does not fit the state of the domain', 'see `rotor status`'),
  ERR_REHEARSAL_FAILED: entry(
    65,
    'leaves would not verify with the bundle that was to come, so it is not published',
    'nothing has changed; the message names which leaf fails with which trust',
  ),
  ERR_CLOCK_SKEW: entry(75, 'the clock of this node is too far off', 'synchronise the clock'),
  ERR_ABORTED: entry(130, 'stopped on request', 'nothing'),
  ERR_INTERNAL: entry(70, 'a defect in nats-rotor', 'report it with the log'),
} as const satisfies Record<string, ErrorEntry>

export type RotorErrorCode = keyof typeof ERRORS

export interface RotorErrorOptions {
  readonly cause?: unknown
  /** Typed facts for machines: path, subject, key, epoch. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>
}

const brand = Symbol.for('nats-rotor.error')

/**
 * Characters of a message. It goes into logs, records and answers, and often repeats what somebody sent: who sent it
 * must not decide how long it gets.
 */
const MAX_MESSAGE = 8_192

const bounded = (message: string): string =>
  message.length <= MAX_MESSAGE
    ? message
    : `${message.slice(0, MAX_MESSAGE)}... (${message.length - MAX_MESSAGE} characters more)`

/** The one error class. `message` says what was expected, what was found and where; `code` is stable. */
export class RotorError extends Error {
  override readonly name = 'RotorError'
  readonly code: RotorErrorCode
  readonly details: Readonly<Record<string, unknown>>
  readonly [brand] = true

  constructor(code: RotorErrorCode, message: string, options: RotorErrorOptions = {}) {
    super(bounded(message), options.cause === undefined ? {} : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
  }

  get exitCode(): number {
    return ERRORS[this.code].exit
  }

  /** What the reader can do now. */
  get action(): string {
    return ERRORS[this.code].action
  }

  toJSON(): { code: RotorErrorCode; message: string; action: string } {
    return { code: this.code, message: this.message, action: this.action }
  }

  /** True also for an error made by another copy of this package. */
  static is(value: unknown): value is RotorError {
    return typeof value === 'object' && value !== null && brand in value
  }

  /** Any thrown value as a RotorError: ours unchanged, anything else with the given code and its text. */
  static from(value: unknown, code: RotorErrorCode = 'ERR_INTERNAL', context = ''): RotorError {
    if (RotorError.is(value)) return value
    const text = value instanceof Error ? value.message : String(value)
    return new RotorError(code, context === '' ? text : `${context}: ${text}`, { cause: value })
  }
}
