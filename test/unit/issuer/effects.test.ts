import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createRoot, EmbeddedAuthority } from '../../../issuer/authority/embedded.ts'
import { FileHistory } from '../../../issuer/history/files.ts'
import { Effects } from '../../../issuer/loop/effects.ts'
import { Prober } from '../../../issuer/prober.ts'
import { SignerStore } from '../../../issuer/signers.ts'
import { silentLogger } from '../../../src/log.ts'
import type { RotationState } from '../../../src/rotation/state.ts'
import { systemClock } from '../../../src/time.ts'
import { domainNames } from '../../../src/wire/names.ts'
import { steadyState, withPayload } from '../../support/rotation-world.ts'

const HOUR = 3_600_000
const now = Date.now()
const window = { notBefore: now - HOUR, notAfter: now + HOUR }

test('an authority that somebody made under another root is not taken, and not deleted: a bundle may have it', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'rotor-effects-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  await createRoot({ domain: 'test', dir, ...window })
  const authority = new EmbeddedAuthority({ domain: 'test', dir })
  const names = domainNames('test')
  const options = { names, authority, clock: systemClock, logger: silentLogger }
  const prober = new Prober({ ...options, agents: () => [], spiffeId: names.spiffeId('issuer') })
  const effects = new Effects({
    ...options,
    signers: new SignerStore({ dir }),
    history: new FileHistory(join(dir, 'bundles')),
    prober,
    census: { kick: async () => {} },
    lease: { assertLeads: () => {} },
    onEvent: () => {},
  })

  const [old] = await authority.rootStore.held()
  assert.ok(old)
  const state = withPayload<RotationState>(steadyState(), { roots: [old.certificate] })
  const create = () =>
    effects.make({ kind: 'create-authority', epoch: 7, ...window, root: old.sha256 }, state)
  await create()
  assert.equal((await authority.list()).length, 1)
  await authority.delete(7)

  // as another issuer does, which knows more
  await effects.make({ kind: 'create-root', number: 2, ...window, cross: null }, state)
  const made = await authority.prepare(7, window)
  await assert.rejects(create(), {
    code: 'ERR_AUTHORITY_MISSING',
    message: /a new root is introduced by `rotor root rotate` before it signs/,
  })
  assert.deepEqual(await authority.list(), [made])
})
