/** The generated configuration as text; what real servers make of it is in test/integration. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { accountsBlock, serverSettings } from '../../../src/domain/nats-config.ts'
import { overlap } from '../../../src/domain/subjects.ts'

const settings = {
  name: 'nats-1',
  client: '127.0.0.1:4222',
  identity: '/etc/rotor/nats-1',
  storeDir: '/var/lib/nats',
  pidFile: '/run/nats.pid',
}

describe('server.conf', () => {
  test('names the files of the identity directory', () => {
    const text = serverSettings(settings)
    assert.match(text, /^ROTOR_TLS_CERT: "\/etc\/rotor\/nats-1\/tls\.crt"$/m)
    assert.match(text, /^ROTOR_TLS_KEY: "\/etc\/rotor\/nats-1\/tls\.key"$/m)
    assert.match(text, /^ROTOR_TLS_CA: "\/etc\/rotor\/nats-1\/ca\.pem"$/m)
  })

  test('opens a monitoring port only when asked', () => {
    assert.doesNotMatch(serverSettings(settings), /^http/m)
    assert.match(
      serverSettings({ ...settings, monitoring: '127.0.0.1:8222' }),
      /^http: "127\.0\.0\.1:8222"$/m,
    )
  })

  test('names all routes', () => {
    const cluster = { name: 'prod', listen: '0.0.0.0:6222', routes: ['nats-1:6222', 'nats-2:6222'] }
    assert.match(
      serverSettings({ ...settings, cluster }),
      /^ROTOR_ROUTES: \["nats:\/\/nats-1:6222", "nats:\/\/nats-2:6222"\]$/m,
    )
  })

  test('names itself to other servers by the name in its certificate', () => {
    const cluster = {
      name: 'prod',
      listen: '0.0.0.0:6222',
      routes: ['nats-1:6222'],
      advertise: 'nats-1:6222',
    }
    assert.match(serverSettings({ ...settings, cluster }), /^ROTOR_CLUSTER_ADVERTISE: "nats-1:6222"$/m)
    assert.match(serverSettings(settings), /^ROTOR_CLUSTER_ADVERTISE: ""$/m)
  })

  test('keeps quotes and backslashes of a path inside its string, and takes no line breaks', () => {
    assert.match(serverSettings({ ...settings, storeDir: '/a"b\\c' }), /^ROTOR_STORE_DIR: "\/a\\"b\\\\c"$/m)
    assert.throws(() => serverSettings({ ...settings, storeDir: '/a\nhttp: 0.0.0.0:80' }), {
      code: 'ERR_CONFIG_INVALID',
    })
  })
})

describe('accounts.conf', () => {
  const block = (extra: object) =>
    accountsBlock({ domain: 'prod', users: [{ name: 'orders', role: 'service', ...extra }] })

  test('names its users by SPIFFE ID', () => {
    assert.match(block({}), /user: "spiffe:\/\/prod\/orders"/)
  })

  for (const subject of [
    '>',
    'rotor.>',
    '*.prod.bundle',
    'rotor.prod.sign.billing',
    '$KV.>',
    '$KV.*.billing',
    '$JS.API.>',
    '$JS.API.STREAM.DELETE.*',
    '$JS.API.CONSUMER.CREATE.*.>',
    '$JS.API.CONSUMER.MSG.NEXT.ROTOR_prod.agent-billing',
    '$JS.ACK.>',
    '$SYS.REQ.SERVER.*.RELOAD',
    '_INBOX.>',
    '_INBOX.prod.billing.>',
  ]) {
    test(`refuses own traffic that reaches into nats-rotor's: ${subject}`, () => {
      assert.throws(() => block({ publish: [subject] }), { code: 'ERR_CONFIG_INVALID' })
      assert.throws(() => block({ subscribe: [subject] }), { code: 'ERR_CONFIG_INVALID' })
    })
  }

  test('refuses the streams of nats-rotor as streams of a service', () => {
    for (const stream of ['ROTOR_prod', 'KV_rotor-prod-status', '*', '>', 'a b']) {
      assert.throws(() => block({ streams: [stream] }), { code: 'ERR_CONFIG_INVALID' }, stream)
    }
  })

  test('takes subjects and streams of other applications, and of another trust domain', () => {
    const text = block({
      publish: ['orders.>', 'rotor.stage.bundle'],
      subscribe: ['requests.*'],
      streams: ['ORDERS', 'KV_settings'],
    })
    assert.match(text, /"\$JS\.API\.CONSUMER\.MSG\.NEXT\.ORDERS\.>"/)
  })

  test('lets only users that serve requests publish to the inboxes of the domain', () => {
    const answers = /publish: \{ allow: \[[^\]]*"_INBOX\.prod\.>"/
    assert.doesNotMatch(block({ publish: ['orders.>'] }), answers)
    assert.match(block({ subscribe: ['requests.*'] }), answers)
  })

  test('refuses the name of the system account, also when a domain is called so', () => {
    assert.throws(() => accountsBlock({ domain: 'sys', users: [] }), { code: 'ERR_CONFIG_INVALID' })
    assert.throws(() => accountsBlock({ domain: 'prod', account: 'A B', users: [] }), {
      code: 'ERR_CONFIG_INVALID',
    })
  })
})

describe('two subject patterns', () => {
  const token = fc.constantFrom('a', 'b', 'c')
  const subject = fc.array(token, { minLength: 1, maxLength: 4 })
  const pattern = fc
    .tuple(fc.array(fc.constantFrom('a', 'b', 'c', '*'), { maxLength: 4 }), fc.boolean())
    .filter(([tokens, tail]) => tokens.length > 0 || tail)
    .map(([tokens, tail]) => [...tokens, ...(tail ? ['>'] : [])])
  const matches = (tokens: readonly string[], parts: readonly string[]): boolean =>
    parts.at(-1) === '>'
      ? tokens.length >= parts.length && matches(tokens.slice(0, parts.length - 1), parts.slice(0, -1))
      : tokens.length === parts.length && parts.every((part, i) => part === '*' || part === tokens[i])

  test('overlap whenever some subject matches both', () => {
    fc.assert(
      fc.property(pattern, pattern, subject, (a, b, tokens) => {
        fc.pre(matches(tokens, a) && matches(tokens, b))
        assert.ok(overlap(a.join('.'), b.join('.')))
      }),
    )
  })

  test('do not overlap when no subject matches both', () => {
    const all = (length: number): string[][] =>
      length === 0 ? [[]] : all(length - 1).flatMap((rest) => ['a', 'b', 'c'].map((each) => [...rest, each]))
    const subjects = [1, 2, 3, 4, 5, 6].flatMap(all)
    fc.assert(
      fc.property(pattern, pattern, (a, b) => {
        const both = subjects.some((tokens) => matches(tokens, a) && matches(tokens, b))
        assert.equal(overlap(a.join('.'), b.join('.')), both)
      }),
    )
  })
})
