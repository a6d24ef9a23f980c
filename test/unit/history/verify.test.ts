/**
 * A whole history has no finding, and every one of these hands shows: a byte changed, a message taken away, two exchanged,
 * one played again, a bundle by somebody else, in the stream or beside the keys.
 */
import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { generateSigner, type Signer, signBundle } from '../../../src/bundle/envelope.ts'
import { encodePayload } from '../../../src/bundle/payload.ts'
import { vouch } from '../../../src/bundle/succession.ts'
import { type Finding, type HistoryMaterial, readHistory } from '../../../src/history/verify.ts'
import type { BundlePayload } from '../../../src/wire/bundle.ts'
import { makeTestDomain, type TestBundle, type TestDomain } from '../../support/test-domain.ts'

const now = Date.UTC(2026, 10, 22, 12)
const COUNT = 8

describe('the history of a domain', () => {
  let domain: TestDomain
  let first: Signer
  let second: Signer
  let bundles: TestBundle[]

  /** The next bundle, one minute later. */
  const next = async (
    after: TestBundle | undefined,
    by: readonly Signer[],
    more: Partial<BundlePayload> = {},
  ) => {
    const number = after?.payload.version ?? 0
    const issuedAt = new Date(now - (COUNT - number) * 60_000).toISOString()
    return domain.bundle(
      { issuedAt, signers: by.map(({ key }) => key), ...more },
      { ...(after && { after }), by },
    )
  }
  before(async () => {
    domain = await makeTestDomain({ now })
    first = domain.signer
    second = await generateSigner()
    const succession = [await vouch(domain.domain, first, second)]
    bundles = []
    for (let i = 0; i < COUNT; i++) {
      const by = i < 3 ? [first] : i < 5 ? [second, first] : [second]
      bundles.push(await next(bundles.at(-1), by, i < 3 ? {} : { succession }))
    }
  })

  type Edit = { stream: (Uint8Array | null)[]; kept: (Uint8Array | null)[] }
  const material = (
    edit: (history: Edit) => void = () => {},
    more: Partial<HistoryMaterial> = {},
  ): HistoryMaterial => {
    const all: Edit = { stream: bundles.map((b) => b.envelope), kept: bundles.map((b) => b.envelope) }
    edit(all)
    return {
      domain: domain.domain,
      stream: {
        messages: all.stream.flatMap((data, i) => (data === null ? [] : [{ sequence: i + 1, data }])),
        first: 1,
        last: all.stream.length,
        limit: 4096,
      },
      kept: all.kept.flatMap((data, i) => (data === null ? [] : [{ version: i + 1, data }])),
      genesis: bundles[0]?.envelope ?? new Uint8Array(),
      now,
      ...more,
    }
  }
  const findings = async (
    edit?: (history: Edit) => void,
    more?: Partial<HistoryMaterial>,
  ): Promise<readonly Finding[]> => (await readHistory(material(edit, more))).findings
  const places = async (
    edit?: (history: Edit) => void,
    more?: Partial<HistoryMaterial>,
  ): Promise<string[]> => [...new Set((await findings(edit, more)).map(({ where }) => where))]

  test('is whole as it was written, over a change of the signer, from either place alone', async () => {
    const { entries, findings: found } = await readHistory(material())
    assert.deepEqual(found, [])
    assert.deepEqual(
      entries.map(({ version, sequence, kept, verified }) => [version, sequence, kept, verified]),
      bundles.map((_, i) => [i + 1, i + 1, true, true]),
    )
    assert.deepEqual(await findings(undefined, { stream: null }), [])
    assert.deepEqual(await findings(undefined, { kept: null }), [])
    // kept bundles are forgotten from below
    assert.deepEqual(await findings((h) => h.kept.fill(null, 0, 4)), [])
    assert.deepEqual(await findings(undefined, { signers: [first.key.kid] }), [])
    assert.deepEqual(
      await findings((h) => h.kept.fill(null, 0, 6), { stream: null, since: 7, signers: [first.key.kid] }),
      [],
    )
    // the newest one is not published yet
    assert.deepEqual(await findings((h) => h.stream.pop()), [])
  })

  test('shows every byte that was changed, wherever it is', async () => {
    for (const place of ['stream', 'kept'] as const) {
      for (const i of [0, 3, COUNT - 1]) {
        const { envelope } = bundles[i] ?? { envelope: new Uint8Array() }
        const positions = [0, 12, 500, envelope.length - 90, envelope.length - 1]
        for (const at of positions) {
          const changed = Uint8Array.from(envelope)
          changed[at] = changed[at] === 0x41 ? 0x42 : 0x41
          const where = place === 'stream' ? `stream message ${i + 1}` : `kept bundle ${i + 1}`
          assert.ok(
            (
              await places((h) => {
                h[place][i] = changed
              })
            ).includes(where),
            `${where}, byte ${at}`,
          )
          const alone = place === 'stream' ? { kept: null } : { stream: null }
          assert.ok(
            (
              await places((h) => {
                h[place][i] = changed
              }, alone)
            ).includes(where),
            `${where} alone, byte ${at}`,
          )
        }
      }
    }
  })

  test('shows a change that means nothing: a space, an order of names, a signature more or less', async () => {
    const text = Buffer.from(bundles[3]?.envelope ?? []).toString()
    const parsed = JSON.parse(text)
    const edits = {
      space: text.replace('","signatures', '", "signatures'),
      order: JSON.stringify({ signatures: parsed.signatures, payload: parsed.payload }),
      less: JSON.stringify({ ...parsed, signatures: parsed.signatures.slice(1) }),
    }
    for (const [name, edited] of Object.entries(edits)) {
      assert.deepEqual(
        await places(
          (h) => {
            h.stream[3] = Buffer.from(edited)
          },
          { kept: null },
        ),
        ['stream message 4'],
        name,
      )
    }
    const thief = await generateSigner()
    const more = await signBundle(bundles[3]?.text ?? '', [first, second, thief])
    assert.deepEqual(
      await places(
        (h) => {
          h.stream[3] = more
        },
        { kept: null },
      ),
      ['stream message 4'],
    )
  })

  test('shows what was taken away, from the middle and from both ends', async () => {
    for (let i = 0; i < COUNT; i++) {
      assert.ok(
        (
          await places((h) => {
            h.stream[i] = null
          })
        ).includes(`stream message ${i + 1}`),
      )
      if (i > 0 && i < COUNT - 1) {
        assert.ok(
          (
            await places((h) => {
              h.kept[i] = null
            })
          ).includes(`kept bundle ${i + 1}`),
        )
      }
    }
    assert.ok(
      (
        await places((h) => {
          h.kept[COUNT - 1] = null
        })
      ).includes(`stream message ${COUNT}`),
      'it is not kept',
    )
    // as if it had never been there
    for (const i of [0, 1, 4]) assert.ok((await places((h) => h.stream.splice(i, 1))).length > 0, `${i}`)
    assert.ok((await places((h) => h.stream.splice(COUNT - 3, 3))).length > 0, 'the end')
    assert.deepEqual(
      await places(
        (h) => {
          h.stream.fill(null)
          h.kept.fill(null)
        },
        { stream: null },
      ),
      ['history'],
    )
  })

  test('shows what was exchanged or played again', async () => {
    for (const place of ['stream', 'kept'] as const) {
      for (let i = 0; i + 1 < COUNT; i++) {
        const swap = (h: Edit) => h[place].splice(i, 2, h[place][i + 1] ?? null, h[place][i] ?? null)
        assert.ok((await findings(swap)).length > 0, `${place} ${i}`)
      }
    }
    for (let i = 0; i < COUNT; i++) {
      const again = (h: Edit) => h.stream.push(h.stream[i] ?? null)
      assert.deepEqual(await places(again), [`stream message ${COUNT + 1}`], `${i}`)
    }
    // what the issuer does about it is no harm: only what was played is told
    const repaired = (h: Edit) => h.stream.push(h.stream[1] ?? null, h.stream[COUNT - 1] ?? null)
    assert.deepEqual(await places(repaired), [`stream message ${COUNT + 1}`])
  })

  test('shows bundles that a stranger, a former signer or the holder of a stolen key put in', async () => {
    const last = bundles[COUNT - 1]
    const thief = await generateSigner()
    for (const by of [thief, first]) {
      const forged = await next(last, [by])
      const put = (h: Edit) => {
        h.stream.push(forged.envelope)
        h.kept.push(forged.envelope)
      }
      assert.deepEqual(await places(put), [`stream message ${COUNT + 1}`, `kept bundle ${COUNT + 1}`])
    }
    // well signed, and not what was published: a fork
    const fork = await next(bundles[5], [second], { reason: 'another' })
    const forked = await places((h) => {
      h.stream[6] = fork.envelope
    })
    assert.ok(forked.includes('kept bundle 7'), 'the two differ')
    assert.ok(
      (
        await places((h) => {
          h.stream[6] = fork.envelope
          h.kept[6] = fork.envelope
        })
      ).includes('stream message 8'),
    )
    assert.ok(
      (
        await places(
          (h) => {
            h.stream[0] = fork.envelope
          },
          { kept: null },
        )
      ).length > 0,
    )
    // dates
    const early = await next(last, [second], { issuedAt: new Date(now - 7 * 60_000).toISOString() })
    assert.deepEqual(
      await places((h) => {
        h.stream.push(early.envelope)
        h.kept.push(early.envelope)
      }),
      [`version ${COUNT + 1}`],
    )
    const future = await next(last, [second], { issuedAt: new Date(now + 10 * 60_000).toISOString() })
    assert.deepEqual(
      await places((h) => {
        h.stream.push(future.envelope)
        h.kept.push(future.envelope)
      }),
      [`version ${COUNT + 1}`],
    )
    assert.ok(encodePayload(future.payload) === future.text)
  })

  test('begins with the bundle of the founding, by whom the auditor believes', async () => {
    const other = await makeTestDomain({ now })
    const genesis = (await other.bundle()).envelope
    assert.ok((await places(undefined, { genesis })).includes('stream message 1'))
    assert.ok((await places(undefined, { signers: [other.signer.key.kid] })).includes('stream message 1'))
  })
})
