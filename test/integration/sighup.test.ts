/**
 * A nats-server before 2.10 that gives no answer to its clients: after a reload of 2.9.16 and older this can happen
 * to all answers of JetStream and $SYS, and the next reload makes it good (agent/targets/sighup.ts). Here the answer
 * is missing because the running configuration asks the wrong subject, so that it happens each time.
 */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { natsServerTarget } from '../../agent/targets/nats-server.ts'
import type { HeldIdentity } from '../../src/identity/identity.ts'
import { natsTls } from '../../src/nats/connect.ts'
import { configLoadTime } from '../../src/nats/server-info.ts'
import { identityOf, makeTestDomain } from '../support/test-domain.ts'
import { startTlsServer, type TlsServer } from '../support/tls-server.ts'

const VARZ = '$SYS.REQ.SERVER.*.VARZ'
/** Nobody listens there, and this release says nothing then. */
const NOBODY = 'NOBODY.*.VARZ'

const accounts = (subject: string) => `
  accounts {
    SYS { exports: [{ service: "${VARZ}" }, { service: "${NOBODY}" }] }
    APP {
      users: [{ user: app, password: app }]
      imports: [{ service: { account: SYS, subject: "${subject}" }, to: "${VARZ}" }]
    }
  }`

describe('a server that is told by SIGHUP and gives no answer', () => {
  let server: TlsServer
  let held: HeldIdentity
  let nc: NatsConnection
  const dials: NatsConnection[] = []

  const dial = async (): Promise<NatsConnection> => {
    const servers = [server.address('client')]
    const dialled = await connect({ servers, tls: natsTls(held, servers), user: 'app', pass: 'app' })
    dials.push(dialled)
    return dialled
  }
  const pidFile = () => join(dirname(server.configFile), 'server.pid')
  const target = (name: string, timeout: number) =>
    natsServerTarget(
      {
        type: 'nats-server',
        name,
        listeners: [{ kind: 'client', address: server.address('client'), handshakeFirst: false }],
        pidFile: pidFile(),
        timeout,
      },
      held.current(),
    )
  const context = () => ({
    identity: held.current(),
    nc,
    dial,
    signal: AbortSignal.timeout(20_000),
  })
  const reloads = async () =>
    (await server.log()).filter((line) => line.includes('Reloaded server configuration')).length
  const mend = async () => {
    const text = await readFile(server.configFile, 'utf8')
    await writeFile(server.configFile, text.replace(`subject: "${NOBODY}"`, `subject: "${VARZ}"`))
  }

  beforeEach(async () => {
    const domain = await makeTestDomain()
    const leaf = await domain.leaf({ name: 'server' })
    held = identityOf(leaf, domain.authority().certificate)
    const config = `pid_file: "server.pid"\nsystem_account: SYS\n${accounts(NOBODY)}`
    const trusted = [domain.authority().certificate]
    server = await startTlsServer({ release: 'nats-server-oldest', leaf, trusted, config })
    nc = await dial()
  })
  afterEach(async () => {
    await Promise.all(dials.splice(0).map((dialled) => dialled.close()))
    await server[Symbol.asyncDispose]()
  })

  test('it is told again until it answers, and once more until that is a reload of ours', async () => {
    await mend()
    await target('tested', 10_000).notify(context())
    assert.notEqual(await configLoadTime(nc, nc.info?.server_id ?? ''), null)
    assert.ok((await reloads()) >= 2, `${await reloads()} reloads`)
  })

  test('it is asked by a client of its own when the agent is connected elsewhere', async () => {
    await mend()
    await target('another', 10_000).notify(context())
    assert.equal(dials.length, 2)
    assert.equal(dials[1]?.isClosed(), true)
  })

  test('when it stays silent the error says so, and what to do', async () => {
    await assert.rejects(target('tested', 1_500).notify(context()), {
      code: 'ERR_NATS_UNAVAILABLE',
      message: /^tested gives no answer.*1500 ms.*restart it/,
    })
    assert.ok((await reloads()) >= 1)
  })
})
