/** The key store as a folder that all issuers have: `node:fs/promises` and `identity/durable.ts` as far as they are used. */
import { signerFromPem } from '../../../../src/bundle/envelope.ts'
import { sleep } from '../../../../src/time.ts'
import { currentIssuer } from '../issuer-machine.ts'

export { errorCode } from '../../../../src/identity/durable.ts'

const files = (): Map<string, string> => currentIssuer().parts.keys.files

const missing = (path: string): Error => Object.assign(new Error(`${path}: no such file`), { code: 'ENOENT' })

/** It is on another machine. */
const onItsWay = (): Promise<void> => sleep(currentIssuer().parts.network.delay())

export async function readdir(dir: string): Promise<string[]> {
  const below = [...files().keys()].filter((path) => path.startsWith(`${dir}/`))
  return below.map((path) => path.slice(dir.length + 1)).filter((name) => !name.includes('/'))
}

export async function readFile(path: string, encoding?: 'utf8'): Promise<string | Buffer> {
  const text = files().get(path)
  if (text === undefined) throw missing(path)
  return encoding === undefined ? Buffer.from(text) : text
}

export async function createFile(path: string, data: string | Uint8Array): Promise<boolean> {
  await onItsWay()
  if (files().has(path)) return false
  files().set(path, Buffer.from(data).toString())
  return true
}

export async function rm(path: string): Promise<void> {
  await onItsWay()
  const text = files().get(path)
  if (text !== undefined && path.endsWith('.key')) {
    const { watching, keys } = currentIssuer().parts
    const signer = signerFromPem(text)
    watching.deletingSigner(signer.key.kid)
    keys.retired.push(signer)
  }
  files().delete(path)
}

export const mkdir = async (): Promise<void> => {}
export const fsyncDir = async (): Promise<void> => {}
export const writing = <T>(_path: string, step: () => Promise<T>): Promise<T> => step()
