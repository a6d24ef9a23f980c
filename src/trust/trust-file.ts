/** A PEM file of the user's choice that says whom to trust. */
import { readFile } from 'node:fs/promises'
import { RotorError } from '../errors.ts'
import { parseCertificates } from './certificate.ts'

/** The text of the file, when every part of it is a certificate. Throws ERR_CONFIG_INVALID; `key` names the setting. */
export async function readTrustFile(file: string, key: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new RotorError('ERR_CONFIG_INVALID', `${key}: ${cause.message}`, { cause })
  })
  try {
    // OpenSSL passes over what it can not read.
    parseCertificates(text, file)
  } catch (cause) {
    throw new RotorError('ERR_CONFIG_INVALID', `${key}: ${RotorError.from(cause).message}`, { cause })
  }
  return text
}
