/**
 * Would the package work for the people who install it? Builds and packs it once, then looks at the tarball: unused
 * code (knip), its shape (publint), its types (attw), and whether its entries and its command run with nothing but
 * the declared dependencies. Needs a set-up clone; run by `npm run check`.
 */
import { spawnSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/**
 * Runs a program and shows its output; a failure ends the gates.
 * @param {string} command @param {string[]} args @param {string} [cwd]
 */
function gate(command, args, cwd = ROOT) {
  const result = spawnSync(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
  if (result.error) throw result.error
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${result.status ?? result.signal}`)
}

/** @param {string} folder */
function pack(folder) {
  gate('npm', ['pack', '--loglevel=error', '--pack-destination', folder])
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))
  if (tarball === undefined) throw new Error('npm pack left no tarball')
  return join(folder, tarball)
}

/**
 * An empty project with the unpacked tarball and links to these packages only: one that is used but not declared is
 * not found. No second installation is needed.
 * @param {string} tarball @param {string} project @param {readonly string[]} packages
 */
function install(tarball, project, packages) {
  const modules = join(project, 'node_modules')
  const installed = join(modules, PACKAGE.name)
  mkdirSync(installed, { recursive: true })
  gate('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed])
  for (const name of packages) {
    mkdirSync(dirname(join(modules, name)), { recursive: true })
    symlinkSync(join(ROOT, 'node_modules', name), join(modules, name))
  }
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }\n')
  return installed
}

/** Entries that are for users of an optional peer, and load with it only. */
const NEEDS = { './undici': 'undici', './grpc': '@grpc/grpc-js' }

/** @param {string} tarball @param {string} folder */
function tryOut(tarball, folder) {
  const dependencies = Object.keys(PACKAGE.dependencies)
  const alone = join(folder, 'alone')
  const installed = install(tarball, alone, dependencies)
  for (const entry of Object.keys(PACKAGE.exports).filter((key) => !key.endsWith('.json'))) {
    const peer = Object.entries(NEEDS).find(([needs]) => needs === entry)?.[1]
    if (peer === undefined) {
      tryEntry(entry, alone)
      continue
    }
    const project = join(folder, peer)
    install(tarball, project, [...dependencies, peer])
    tryEntry(entry, project)
  }
  for (const file of Object.values(PACKAGE.bin)) gate(join(installed, String(file)), ['--version'], alone)
}

/** @param {string} entry @param {string} project */
function tryEntry(entry, project) {
  const name = join(PACKAGE.name, entry)
  const code = `if (Object.keys(await import('${name}')).length === 0) throw new Error('${name} exports nothing')`
  gate(process.execPath, ['--input-type=module', '--eval', code], project)
}

const folder = mkdtempSync(join(tmpdir(), 'rotor-gates-'))
try {
  gate('knip', ['--no-progress'])
  const tarball = pack(folder)
  gate('publint', ['run', tarball, '--strict'])
  gate('attw', [tarball, '--profile', 'esm-only'])
  tryOut(tarball, folder)
  console.log('package gates: knip, publint, attw and the packed package are fine')
} catch (error) {
  console.error(`package gates: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
