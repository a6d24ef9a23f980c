/** Keys, requests and proofs cost nothing here: what they prove is what their text says. */
import type { SignClaims } from '../../../../src/wire/requests.ts'
import { currentProcess } from '../timeline.ts'

export const generateKeyPair = async () => {
  const key = `key ${currentProcess().timeline.random.int(0, 2 ** 31)}`
  return { privateKey: key, publicKey: key }
}
export const privateKeyToPem = (key: string): string => key
export const privateKeyFromPem = (text: string): string => text
export const makeCsr = async ({ publicKey }: { readonly publicKey: string }): Promise<string> => publicKey
export const parseCsr = async (text: string): Promise<string> => text
export const parseCertificates = (text: string): readonly string[] => [text]

/** What a signing request of the simulation looks like. */
export interface SimulatedProof {
  readonly claims: SignClaims
  readonly leaf: string
}

export const proveClaims = async (
  claims: SignClaims,
  _key: string,
  chain: readonly string[],
): Promise<string> => JSON.stringify({ claims, leaf: chain[0] ?? '' } satisfies SimulatedProof)
