import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { freePorts } from '../../../src/local/ports.ts'

const CHILD = fileURLToPath(new URL('ports-child.ts', import.meta.url))

describe('local ports', () => {
  test('are never given twice in a process, also to callers at the same time', async () => {
    const ports = (await Promise.all([freePorts(40), freePorts(40), freePorts(40)])).flat()
    assert.equal(new Set(ports).size, 120)
  })

  test('can be listened on', async () => {
    const [port] = await freePorts(1)
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    server.close()
  })

  test('are never given to two processes that live at the same time', { timeout: 20_000 }, async () => {
    const children = [1, 2, 3].map(() =>
      spawn(process.execPath, [CHILD, '100'], { stdio: ['pipe', 'pipe', 'inherit'] }),
    )
    const lists = await Promise.all(
      children.map(async (child) => JSON.parse(String((await once(child.stdout, 'data'))[0])) as number[]),
    )
    const all = [...lists.flat(), ...(await freePorts(100))]
    assert.equal(new Set(all).size, 400)
    await Promise.all(
      children.map(async (child) => {
        child.stdin.end()
        await once(child, 'exit')
      }),
    )
  })
})
