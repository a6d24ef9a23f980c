/** `rotor inspect`: what is in an identity directory, a bundle or a certificate file? */
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { openEnvelope } from '../../src/bundle/envelope.ts'
import { payloadDigest } from '../../src/bundle/payload.ts'
import { RotorError } from '../../src/errors.ts'
import { parseMaterial } from '../../src/identity/material.ts'
import { readIdentity } from '../../src/identity/read.ts'
import { formatInstant } from '../../src/time.ts'
import { type Certificate, parseCertificates } from '../../src/trust/certificate.ts'
import { bundlePayload } from '../../src/wire/bundle.ts'
import { decodeRecord } from '../../src/wire/record.ts'
import { makeOutput, relative, table } from '../output.ts'

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .summary('tell what is in an identity directory, a bundle or a certificate file')
    .description(
      'Reads without a network. For a bundle it tells which signers of the bundle itself verify; whether you trust them is up to you.',
    )
    .argument('<path>', 'identity directory, bundle (JWS) or PEM file')
    .option('--json', 'print the answer as JSON', false)
    .action(async (path: string, options: { json: boolean }) => {
      const output = makeOutput(options.json)
      const full = resolve(path)
      const info = await stat(full).catch((cause) => {
        throw new RotorError('ERR_IDENTITY_MISSING', `${full}: ${cause.message}`, { cause })
      })
      const { value, text } = info.isDirectory() ? await inspectIdentity(full) : await inspectFile(full)
      output.answer(value, text)
    })
}

interface Answer {
  readonly value: unknown
  readonly text: string
}

async function inspectIdentity(dir: string): Promise<Answer> {
  const snapshot = await readIdentity(dir)
  const { chain, trusted } = parseMaterial(snapshot)
  const value = {
    type: 'identity',
    generation: snapshot.generation,
    version: snapshot.version,
    chain: chain.map(describe),
    trusted: trusted.map(describe),
  }
  const text = `identity ${dir}\ngeneration ${snapshot.generation}, made for bundle ${snapshot.version}; the key fits the leaf\n${certificates('chain', chain)}\n${certificates('trusts', trusted)}`
  return { value, text }
}

async function inspectFile(file: string): Promise<Answer> {
  const bytes = await readFile(file)
  if (bytes.subarray(0, 1).toString() === '{') return inspectBundle(bytes)
  const found = parseCertificates(bytes.toString('utf8'), file)
  return {
    value: { type: 'certificates', certificates: found.map(describe) },
    text: certificates('certificate', found),
  }
}

async function inspectBundle(bytes: Uint8Array): Promise<Answer> {
  const envelope = openEnvelope(bytes)
  const payload = decodeRecord(bundlePayload, envelope.payload, 'bundle', 'ERR_BUNDLE_MALFORMED')
  const signers = await Promise.all(
    payload.signers.map(async (key) => ({ kid: key.kid, signed: await envelope.verify(key) })),
  )
  const rows = payload.authorities.map((a) => [`epoch ${a.epoch}`, a.status, a.sha256])
  return {
    value: { type: 'bundle', digest: payloadDigest(envelope.payload), payload, signers },
    text: `bundle ${payload.version} of ${payload.domain}, epoch ${payload.epoch} signs: ${payload.reason}
issued ${payload.issuedAt}, fresh until ${payload.expiresAt}
follows ${payload.previous ?? 'nothing'}
${table(rows)}
${signers.map((s) => `signer ${s.kid}: ${s.signed ? 'signed it' : 'did not sign it'}`).join('\n')}`,
  }
}

const describe = (c: Certificate) => ({
  subject: c.subject,
  issuer: c.issuer,
  fingerprint: c.sha256,
  notBefore: formatInstant(c.notBefore),
  notAfter: formatInstant(c.notAfter),
  ca: c.ca,
  names: c.names,
})

const certificates = (title: string, list: readonly Certificate[]): string =>
  table(
    list.map((c) => [
      title,
      c.subject.replaceAll('\n', ', '),
      `ends ${relative(c.notAfter, Date.now())}`,
      [...c.names.uri, ...c.names.dns, ...c.names.ip].join(' '),
      c.sha256.slice(0, 16),
    ]),
  )
