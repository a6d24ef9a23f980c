/** A bucket of records: those of the lease and of turns. */
import { JetStreamApiError } from '@nats-io/jetstream'
import { RotorError } from '../../../../src/errors.ts'
import { currentIssuer } from '../issuer-machine.ts'
import { currentProcess } from '../timeline.ts'

const ANSWER = 3_000
/** nats-server, errors.json: JSStreamWrongLastSequenceErrF. */
const CONFLICT = { code: 400, err_code: 10071, description: 'wrong last sequence' }

export class Kvm {
  async open() {
    return { get, create: (key: string, value: Uint8Array) => update(key, value, 0), update }
  }
}

/** Nothing but the newest revision is kept. */
async function get(key: string, { revision }: { readonly revision?: number } = {}) {
  const { network, broker } = currentIssuer().parts
  const record = await network.ask(currentProcess(), '', ANSWER, () => broker.read(key))
  if (record === null || (revision !== undefined && revision !== record.revision)) return null
  const created = new Date(record.created)
  return { operation: 'PUT', value: Buffer.from(record.text), revision: record.revision, created }
}

function update(key: string, value: Uint8Array, revision: number): Promise<number> {
  const { network, broker } = currentIssuer().parts
  const text = Buffer.from(value).toString()
  return network.ask(currentProcess(), '', ANSWER, () => {
    try {
      return broker.write(key, text, revision)
    } catch (cause) {
      throw RotorError.from(cause).code === 'ERR_STATE_CONFLICT' ? new JetStreamApiError(CONFLICT) : cause
    }
  })
}
