/**
 * A new root in an engine is made by its operator. 1. It is there and the default: the issuer sees it as the coming one.
 * 2. Until it is introduced the old one signs, although it is the default no more. 3. After that it signs.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { FileHistory } from '../../issuer/history/files.ts'
import { Effects } from '../../issuer/loop/effects.ts'
import { heldRoots, Signers } from '../../issuer/loop/roots.ts'
import { Prober } from '../../issuer/prober.ts'
import { SignerStore } from '../../issuer/signers.ts'
import { silentLogger } from '../../src/log.ts'
import type { RotationState } from '../../src/rotation/state.ts'
import { systemClock } from '../../src/time.ts'
import { parseCertificate } from '../../src/trust/certificate.ts'
import { domainNames } from '../../src/wire/names.ts'
import { TestEngine } from '../support/engine.ts'
import { steadyState, withPayload } from '../support/rotation-world.ts'

const HOUR = 3_600_000

test('a root that the operator made in the engine is introduced before it signs', {
  timeout: 120_000,
}, async (t) => {
  await using engine = await TestEngine.start()
  const domain = await engine.domain('prod')
  const dir = await mkdtemp(join(tmpdir(), 'rotor-vault-root-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const authority = domain.authority()
  const [old = ''] = await authority.roots()
  const mount = domain.config.mounts.root
  const made = await engine.root.write(`${mount}/root/rotate/internal`, {
    common_name: 'prod root 2',
    key_type: 'ec',
    key_bits: 256,
    ttl: '4000h',
  })
  await engine.root.write(`${mount}/config/issuers`, { default: made.issuer_id })

  const [coming, ...more] = await heldRoots(authority, { roots: [old] }, 1)
  assert.ok(coming && more.length === 0)
  assert.equal(coming.number, 2)
  assert.equal(coming.certificate, parseCertificate(String(made.certificate), 'made').pem)
  const oldRoot = parseCertificate(old, 'old')
  assert.notEqual(coming.sha256, oldRoot.sha256)

  const names = domainNames('prod')
  const options = { names, authority, clock: systemClock, logger: silentLogger }
  const prober = new Prober({ ...options, agents: () => [], spiffeId: names.spiffeId('issuer') })
  const effects = new Effects({
    ...options,
    signers: new SignerStore({ dir }),
    history: new FileHistory(dir),
    prober,
    census: { kick: async () => {} },
    lease: { assertLeads: () => {} },
    onEvent: () => {},
  })
  const now = Date.now()
  const create = (epoch: number, root: string, roots: string[]) =>
    effects.make(
      { kind: 'create-authority', epoch, notBefore: now - HOUR, notAfter: now + HOUR, root },
      withPayload<RotationState>(steadyState(), { roots }),
    )
  const rootOf = async (epoch: number) => {
    const held = (await authority.list()).filter((one) => one.epoch === epoch)
    const bundle = { authorities: [], roots: [coming.certificate, old] }
    return Object.values(new Signers().of(bundle, held, [coming]))
  }
  await create(7, oldRoot.sha256, [old])
  assert.deepEqual(await rootOf(7), [oldRoot.sha256], 'the old one signs on')
  await create(8, coming.sha256, [coming.certificate, old])
  assert.deepEqual(await rootOf(8), [coming.sha256])
  await assert.rejects(
    effects.make(
      { kind: 'create-root', number: 3, notBefore: now, notAfter: now + HOUR, cross: null },
      steadyState(),
    ),
    { code: 'ERR_ORDER_REFUSED', message: /made in the engine by its operator/ },
  )
})
