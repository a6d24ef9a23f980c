/**
 * Which TCP ports may this process use on loopback? Ports come in blocks; a process owns a block while it listens on
 * the block's first port. The kernel gives that port to one process only and takes it back when the process ends in
 * any way, so there is nothing to clean up and no two processes ever get the same port.
 */
import { createServer, type Server } from 'node:net'
import { RotorError } from '../errors.ts'

const HOST = '127.0.0.1'
const BLOCK = 64
/** Below 32768, where Linux begins with the ports of outgoing connections: none of them can take ours. */
const FIRST = 20_480
const BLOCKS = 190

interface Block {
  /** Holds the block while this process lives. */
  readonly guard: Server
  readonly end: number
  next: number
}

let current: Block | null = null
let turn: Promise<unknown> = Promise.resolve()

/**
 * `count` ports that nothing listens on, reserved for this process until it ends; no port is given twice.
 * Throws ERR_INTERNAL when all blocks are taken.
 */
export function freePorts(count: number): Promise<number[]> {
  const result = turn.then(() => take(count))
  turn = result.catch(() => {})
  return result
}

async function take(count: number): Promise<number[]> {
  const ports: number[] = []
  while (ports.length < count) {
    if (current === null || current.next >= current.end) current = await claimBlock()
    const port = current.next++
    // a program that is none of ours may use a port of the block
    if (await isFree(port)) ports.push(port)
  }
  return ports
}

async function claimBlock(): Promise<Block> {
  // processes that start together begin their search at different places
  const offset = process.pid % BLOCKS
  for (let i = 0; i < BLOCKS; i++) {
    const start = FIRST + ((offset + i) % BLOCKS) * BLOCK
    const guard = await listen(start)
    if (guard !== null) return { guard: guard.unref(), next: start + 1, end: start + BLOCK }
  }
  throw new RotorError('ERR_INTERNAL', `all ${BLOCKS} blocks of local ports from ${FIRST} on are in use`)
}

async function isFree(port: number): Promise<boolean> {
  const server = await listen(port)
  if (server === null) return false
  await new Promise((resolve) => server.close(resolve))
  return true
}

/** Null when the port is in use or may not be used. */
function listen(port: number): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(null))
    server.listen({ host: HOST, port, exclusive: true }, () => resolve(server))
  })
}
