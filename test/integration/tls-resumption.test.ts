/** Does a client whose authority left the trust come back by a session of before? Neither by ticket nor by storage. */
import assert from 'node:assert/strict'
import { constants, randomBytes } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { createServer, type SecureVersion, type Server, type TlsOptions } from 'node:tls'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'
import { serverTls, settingsOf } from '../../src/tls/contexts.ts'
import { secureServer } from '../../src/tls/secure-server.ts'
import { type Generations, greeting, held, listening, makeGenerations } from '../support/tls-generations.ts'

type Kind = 'tickets' | 'tickets with keys given' | 'stored sessions'

/** Node resumes no stored session in TLS 1.3. */
const CASES: readonly (readonly [SecureVersion, Kind])[] = [
  ['TLSv1.2', 'tickets'],
  ['TLSv1.2', 'tickets with keys given'],
  ['TLSv1.2', 'stored sessions'],
  ['TLSv1.3', 'tickets'],
  ['TLSv1.3', 'tickets with keys given'],
]

describe('a session of an older generation', { timeout: 60_000 }, () => {
  let generations: Generations
  let both: IdentitySnapshot
  let newerOnly: IdentitySnapshot
  let old: IdentitySnapshot
  let young: IdentitySnapshot

  before(async () => {
    generations = await makeGenerations()
    const { older, newer, make, trusting } = generations
    both = await make(newer, [older, newer])
    newerOnly = trusting(both, [newer])
    old = await make(older, [newer])
    young = await make(newer, [newer])
  })

  function greeter(kind: Kind, maxVersion: SecureVersion): Server {
    const options: TlsOptions = { requestCert: true, maxVersion }
    if (kind === 'tickets with keys given') options.ticketKeys = randomBytes(48)
    if (kind === 'stored sessions') options.secureOptions = constants.SSL_OP_NO_TICKET
    const server = createServer(options, (socket) => {
      socket.on('error', () => {})
      socket.end('hello')
    })
    if (kind === 'stored sessions') {
      const sessions = new Map<string, Buffer>()
      server.on('newSession', (id: Buffer, session: Buffer, done: () => void) => {
        sessions.set(id.toString('hex'), session)
        done()
      })
      server.on('resumeSession', (id: Buffer, done: (error: null, session: Buffer | null) => void) =>
        done(null, sessions.get(id.toString('hex')) ?? null),
      )
    }
    return server
  }

  for (const [version, kind] of CASES) {
    test(`opens no door in ${version} with ${kind}`, async () => {
      const server = greeter(kind, version)
      const identity = held(both)
      await using _ = secureServer(server, identity)
      const port = await listening(server)
      try {
        const first = await greeting(port, old)
        const session = first?.session
        assert.ok(session, 'the server gives sessions')
        assert.equal((await greeting(port, old, { session }))?.reused, true, 'and resumes them')
        const other = (await greeting(port, young))?.session
        assert.ok(other)
        identity.set(newerOnly)
        assert.equal(await greeting(port, old, { session }), null)
        assert.equal(await greeting(port, old), null)
        assert.equal((await greeting(port, young, { session: other }))?.reused, false)
        const fresh = (await greeting(port, young))?.session
        assert.ok(fresh)
        assert.equal((await greeting(port, young, { session: fresh }))?.reused, true)
      } finally {
        server.close()
      }
    })
  }

  test('would open it without a context of its own for each generation', async () => {
    const server = greeter('tickets with keys given', 'TLSv1.3')
    const settings = settingsOf(server)
    const { sessionIdContext } = settings
    const set = (next: IdentitySnapshot) =>
      server.setSecureContext({ ...serverTls(settings, next), sessionIdContext: String(sessionIdContext) })
    set(both)
    const port = await listening(server)
    try {
      const session = (await greeting(port, old))?.session
      assert.ok(session)
      set(newerOnly)
      assert.equal((await greeting(port, old, { session }))?.reused, true)
      assert.equal(await greeting(port, old), null)
    } finally {
      server.close()
    }
  })
})
