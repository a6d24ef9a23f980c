/** Starts a nats-server, prints its address, and lives until it is killed. */
import { startNatsServer } from '../../../src/local/nats-server.ts'

const server = await startNatsServer({
  name: 'orphan',
  cwd: process.argv[2] ?? '.',
  args: ['--addr', '127.0.0.1', '--port', '-1'],
})
console.log(server.addresses.client)
