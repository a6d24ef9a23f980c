/**
 * Founds the trust domain of docker-compose.yml on its volumes, once: the arguments are those of `rotor init`.
 * Every later start finds the domain and does nothing.
 */
import { execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where every container sees its own part of the domain. */
const HOME = '/rotor'
/** In memory: `rotor init` wants a directory of its own, and the folders of the nodes are mount points. */
const DRAFT = '/tmp/rotor'
/** Written last. No service starts before this program ended well. */
const FOUNDED = join(HOME, 'issuer', 'founded')

if (existsSync(FOUNDED)) {
  console.log('The domain is founded already.')
} else {
  // What an interrupted founding left was never used.
  for (const volume of volumes())
    for (const entry of readdirSync(volume)) rmSync(join(volume, entry), { recursive: true })
  const init = ['init', '--out', DRAFT, '--paths-as', HOME, ...process.argv.slice(2)]
  execFileSync('rotor', init, { stdio: 'inherit' })

  // For the healthcheck of the servers; it has no login, so only the container itself can reach it.
  for (const server of readdirSync(join(DRAFT, 'servers')))
    appendFileSync(join(DRAFT, 'servers', server, 'server.conf'), 'http: "127.0.0.1:8222"\n')
  // `billing` runs without an agent inside: the agent beside it asks whether it has moved, and looks what it serves.
  const probe = { address: 'billing:8443', serverName: 'billing' }
  addTarget('billing', { type: 'http', url: 'https://billing:8443/moved', probe })

  cpSync(DRAFT, HOME, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true })
  writeFileSync(FOUNDED, `${new Date().toISOString()}\n`, { flush: true })
}

function volumes() {
  const nodes = ['agents', 'servers'].flatMap((kind) =>
    readdirSync(join(HOME, kind)).map((name) => join(HOME, kind, name)),
  )
  return [join(HOME, 'issuer'), ...nodes]
}

/** @param {string} agent @param {object} target as in agent.json */
function addTarget(agent, target) {
  const file = join(DRAFT, 'agents', agent, 'agent.json')
  const config = JSON.parse(readFileSync(file, 'utf8'))
  config.targets.push(target)
  writeFileSync(file, `${JSON.stringify(config, null, 2)}\n`)
}
