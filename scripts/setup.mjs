/**
 * Makes a clone ready: npm packages as the lock file says, and the server binaries named as arguments
 * (`node scripts/setup.mjs [nats-server] [nats-server-oldest] [bao] [libfaketime]`, nats-server by default).
 * Runs on the machine's own Node with nothing installed; does nothing, quickly, when all is there.
 * Everything it says goes to stderr: stdout belongs to the command that follows.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findServer, howToGet, installServer, isOptional, isServerName, SERVER_NAMES } from './servers.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** sysexits.h: a service is unavailable; also what the CLI ends with for a missing binary. */
const EXIT_UNAVAILABLE = 69
const EXIT_USAGE = 64

/** @param {string} line */
const say = (line) => process.stderr.write(`setup: ${line}\n`)

/** @param {string} message @param {number} [code] @returns {never} */
function fail(message, code = EXIT_UNAVAILABLE) {
  say(message)
  process.exit(code)
}

/**
 * True when node_modules is what package-lock.json asks for: npm writes its own lock file into node_modules last,
 * so an interrupted install has none.
 */
function packagesAreCurrent() {
  try {
    const wanted = readPackages('package-lock.json')
    const present = readPackages('node_modules/.package-lock.json')
    accessSync(join(ROOT, 'node_modules/.bin/node'), constants.X_OK)
    return Object.entries(wanted).every(([path, entry]) => {
      if (path === '') return true
      const there = present[path]
      return there === undefined ? entry.optional === true : there.version === entry.version
    })
  } catch {
    return false
  }
}

/** True when the lock file was made for the dependencies that package.json has now. */
function lockFits() {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const locked = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages['']
  const text = (/** @type {Record<string, string> | undefined} */ deps) =>
    JSON.stringify(Object.entries(deps ?? {}).sort())
  return ['dependencies', 'devDependencies'].every((kind) => text(manifest[kind]) === text(locked[kind]))
}

/** @param {string} file @returns {Record<string, { version?: string, optional?: boolean }>} */
function readPackages(file) {
  return JSON.parse(readFileSync(join(ROOT, file), 'utf8')).packages
}

function installPackages() {
  if (packagesAreCurrent()) return
  const release = lock()
  try {
    // another setup may have done it while we waited
    if (packagesAreCurrent()) return
    if (!lockFits()) fail('package-lock.json does not fit package.json. Run `npm install --loglevel=error`.')
    say('installing npm packages')
    // Not `npm ci`: it refuses a lock file made where the optional packages of other platforms can not be had.
    // This takes the locked versions with their hashes too, and writes no file of ours.
    const args = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
    // .npmrc silences npm for the sake of `npm run`; here its errors have to be seen. Its stdout joins our stderr.
    const stdio = /** @type {const} */ (['ignore', process.stderr.fd, process.stderr.fd])
    const result = spawnSync('npm', args, { cwd: ROOT, stdio: [...stdio] })
    if (result.error) {
      fail(`npm does not run: ${result.error.message}. Install Node.js with npm, then try again.`)
    }
    if (result.status !== 0) fail('npm install failed; its message is above. Mend it and run this again.')
    if (!packagesAreCurrent()) {
      fail(
        'npm ended well, but node_modules is not complete: node_modules/.bin/node or a package of the lock file is missing. Are install scripts or development packages switched off in npm?',
      )
    }
  } finally {
    release()
  }
}

/**
 * One installation at a time: two at once would break each other's node_modules. The file holds the owner's pid, so a
 * lock whose owner died is taken over.
 * @returns {() => void}
 */
function lock() {
  const file = join(
    tmpdir(),
    `rotor-setup-${createHash('sha256').update(ROOT).digest('hex').slice(0, 16)}.lock`,
  )
  for (let told = false; ; told = true) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' })
      return () => rmSync(file, { force: true })
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    }
    if (ownerIsGone(file)) rmSync(file, { force: true })
    else if (!told) say('another setup is at work; waiting for it')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  }
}

/** @param {string} file */
function ownerIsGone(file) {
  try {
    const pid = Number(readFileSync(file, 'utf8'))
    if (pid > 0) process.kill(pid, 0)
    return false
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH'
  }
}

/** @param {import('./servers.mjs').ServerName} name */
function ensureServer(name) {
  const { variable } = howToGet(name)
  try {
    if (findServer(name) !== null) return
    installServer(name, { log: say })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const message = `${name} can not be had:\n  ${reason.replaceAll('\n', '\n  ')}\n  Or name one you have: ${variable}=/path`
    if (!isOptional(name)) fail(message)
    say(message)
    say(`tests that need ${name} will say that they were skipped`)
  }
}

if (Number(process.versions.node.split('.')[0]) < 18)
  fail(`needs Node.js 18 or newer, this is ${process.version}`)
const asked = process.argv.length > 2 ? process.argv.slice(2) : ['nats-server']
for (const name of asked) {
  if (!isServerName(name)) fail(`no server "${name}"; there are ${SERVER_NAMES.join(', ')}`, EXIT_USAGE)
}
installPackages()
for (const name of asked.filter(isServerName)) ensureServer(name)
