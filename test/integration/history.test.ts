/**
 * `rotor history --verify` against a real domain: whole after rotations and a change of the signer; and somebody with all
 * rights over the servers, or over the folder of the keys, can not change, drop, exchange or repeat a thing unseen.
 */
import assert from 'node:assert/strict'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { gatherHistory } from '../../issuer/history/gather.ts'
import { readIssuerConfig } from '../../src/domain/config.ts'
import { stateFindings } from '../../src/history/state.ts'
import { readHistory } from '../../src/history/verify.ts'
import { startNatsServer } from '../../src/local/nats-server.ts'
import { rotor } from '../support/cli.ts'
import { RunningDomain } from '../support/running-domain.ts'

test('nobody touches what is stored of a domain without being named', { timeout: 120_000 }, async () => {
  await using domain = await RunningDomain.start({ policy: { retireAfter: '0s' } })
  await domain.startAll()
  await domain.rotate()
  await domain.order('a drill', 'signer-rotate')
  await domain.settled(undefined, ({ signers }) => signers.length === 1)
  await domain.rotate()
  await domain.stopIssuer()
  const { issuerConfig } = domain.local.founded
  const config = await readIssuerConfig(issuerConfig)
  const { names } = domain
  const findingsOn = async (nc: NatsConnection) => {
    const { states, sealed, ...gathered } = await gatherHistory(config, nc)
    const read = await readHistory({ domain: names.domain, ...gathered, now: Date.now() })
    return [...read.findings, ...(await stateFindings(states, sealed, read.entries))].map(
      ({ where }) => where,
    )
  }
  const findings = () => domain.asOperator(({ nc }) => findingsOn(nc))
  assert.deepEqual(await findings(), [])
  const whole = await rotor('history', '--config', issuerConfig, '--verify')
  assert.equal(whole.code, 0, whole.stdout + whole.stderr)
  assert.match(
    whole.stdout,
    /order signer-rotate by test: a drill[\s\S]*introduce signer [\s\S]*Versions 1 to \d+ are whole/,
  )
  const offline = await rotor('history', '--config', issuerConfig, '--verify', '--offline', '--json')
  assert.equal(offline.code, 0, offline.stdout)
  const { entries } = JSON.parse(offline.stdout)
  const activated = entries.find(
    ({ record }: { record: { move: string } | null }) => record?.move === 'activate',
  )
  assert.deepEqual(activated.record.acks, [
    { version: activated.version - 1, count: 2, agents: ['issuer', 'nats-1'] },
  ])

  // beside the keys
  const kept = join(config.keys, 'bundles')
  const files = (await readdir(kept)).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
  assert.equal(files.length, entries.length)
  const middle = join(kept, files[3] ?? '')
  const text = await readFile(middle, 'utf8')
  const version = Number.parseInt(files[3] ?? '', 10)
  await writeFile(middle, text.replace('"payload":"e', '"payload":"f'))
  assert.ok((await findings()).includes(`kept bundle ${version}`))
  const told = await rotor('history', '--config', issuerConfig, '--verify', '--offline', '--json')
  assert.equal(told.code, 1)
  assert.ok(
    JSON.parse(told.stdout).findings.some(
      ({ where }: { where: string }) => where === `kept bundle ${version}`,
    ),
  )
  await rm(middle)
  assert.deepEqual(await findings(), [`kept bundle ${version}`, `stream message ${version}`])
  await rename(join(kept, files[4] ?? ''), middle)
  assert.ok((await findings()).includes(`kept bundle ${version}`))
  await rename(middle, join(kept, files[4] ?? ''))
  await writeFile(middle, text)
  assert.deepEqual(await findings(), [])

  // on the servers, with the rights of an issuer
  const bundles = (await domain.history()).map(({ envelope }) => envelope)
  let state = ''
  await domain.asOperator(async ({ nc }) => {
    const js = jetstream(nc)
    const kv = await new Kvm(js).open(names.stateBucket)
    state = (await kv.get('rotation'))?.string() ?? ''
    for (const edited of [
      state.replace('"phaseVersion":', '"phaseVersion":1'),
      state.replace(/,"seal":.*/, '}'),
      state.replace(/("seal":.*)"/, '$1x"'),
    ]) {
      await kv.put('rotation', edited)
      assert.deepEqual(await findings(), ['rotation state'])
    }
    // an issuer never writes the same twice
    await kv.put('rotation', state)
    assert.deepEqual(await findings(), ['rotation state'])
    await js.publish(names.bundleSubject, bundles[2] ?? '')
    assert.deepEqual(
      await findings(),
      [`stream message ${bundles.length + 1}`, 'rotation state'],
      'played again',
    )
  })

  // with all rights over them: the stream is made anew
  await using server = await startNatsServer({
    name: 'taken',
    cwd: domain.local.dir,
    args: ['-js', '-a', '127.0.0.1', '-p', '-1', '-sd', join(domain.local.dir, 'taken')],
  })
  const nc = await connect({ servers: server.addresses.client ?? '' })
  try {
    const js = jetstream(nc)
    const jsm = await jetstreamManager(nc)
    await (await new Kvm(js).create(names.stateBucket)).put('rotation', state)
    const swapped = bundles.toSpliced(3, 2, bundles[4] ?? Buffer.of(), bundles[3] ?? Buffer.of())
    for (const [what, messages, deleted] of [
      ['as it was', bundles, 0],
      ['one deleted', bundles, 3],
      ['the newest deleted', bundles, bundles.length],
      ['one left out', bundles.toSpliced(3, 1), 0],
      ['the end cut off', bundles.slice(0, -2), 0],
      ['the beginning cut off', bundles.slice(1), 0],
      ['two exchanged', swapped, 0],
    ] as const) {
      await jsm.streams.add({ name: names.bundleStream, subjects: [names.bundleSubject], max_msgs: 4096 })
      for (const envelope of messages) await js.publish(names.bundleSubject, envelope)
      if (deleted > 0) await jsm.streams.deleteMessage(names.bundleStream, deleted)
      assert.equal((await findingsOn(nc)).length > 0, what !== 'as it was', what)
      await jsm.streams.delete(names.bundleStream)
    }
  } finally {
    await nc.close()
  }
})
