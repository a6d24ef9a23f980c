/**
 * A process that does nothing but read identity directories through their public paths, as a service would.
 *
 *   identity-reader.ts <dir>...
 *
 * Prints one line of JSON when it gets SIGTERM: how often it read, how many generations it saw, and every set that was
 * torn or missing. Each directory is read in both documented ways: by `readIdentity`, and by the plain paths, read
 * again when `current` moved meanwhile.
 */
import { lstatSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { readIdentity } from '../../src/identity/read.ts'
import { parseCertificates } from '../../src/trust/certificate.ts'
import { keyMatches, verifyLeaf } from '../../src/trust/chain.ts'
import { privateKeyFromPem } from '../../src/trust/keys.ts'

interface Files {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

let reads = 0
const generations = new Set<string>()
const problems: string[] = []
let ended = false

/** The key is that of the leaf, and the leaf leads to a trusted authority. */
function check(where: string, { ca, certificate, key }: Files): void {
  const chain = parseCertificates(certificate, 'tls.crt')
  const [leaf] = chain
  if (leaf === undefined || !keyMatches(leaf, privateKeyFromPem(key))) throw new Error(`${where}: torn`)
  verifyLeaf(chain, parseCertificates(ca, 'ca.pem'), Date.now())
  reads += 1
}

/** Which link it is: a target may come back (a generation that was put back), the link itself does not. */
function currentLink(dir: string): string {
  const { ino, ctimeNs } = lstatSync(join(dir, 'current'), { bigint: true })
  return `${readlinkSync(join(dir, 'current'))} ${ino} ${ctimeNs}`
}

function readPlainly(dir: string): void {
  const link = currentLink(dir)
  let files: Files
  try {
    const read = (name: string) => readFileSync(join(dir, name), 'utf8')
    files = { certificate: read('tls.crt'), ca: read('ca.pem'), key: read('tls.key') }
  } catch (error) {
    // the generation was removed while its paths were looked up: only if it is not current any more
    if (currentLink(dir) === link) throw error
    return
  }
  if (currentLink(dir) === link) check(`${dir} ${link}`, files)
}

async function hammer(dir: string): Promise<void> {
  while (!ended) {
    try {
      const identity = await readIdentity(dir)
      generations.add(`${dir} ${identity.generation}`)
      check(`${dir} ${identity.generation}`, identity)
      readPlainly(dir)
    } catch (error) {
      problems.push(`${dir}: ${error}`)
    }
    // the processors are shared with all that is read about
    await pause(4)
  }
}

process.once('SIGTERM', () => {
  ended = true
})
process.stdout.write('{"type":"started"}\n')
await Promise.all(process.argv.slice(2).map(hammer))
const answer = { type: 'readings', reads, generations: generations.size, problems: problems.slice(0, 20) }
process.stdout.write(`${JSON.stringify(answer)}\n`)
