/**
 * Which imports of the real code lead elsewhere in a simulation. To be imported before any code of the product.
 *
 * `remembered/`: the same functions, their answers remembered, because hundreds of agents verify the same bytes.
 * `stand-ins/`: what touches the world (disk, sockets, keys) as the simulated machine of the calling process has it.
 */
import { redirect } from '../redirect.ts'

redirect(
  {
    'src/bundle/accept.ts': {
      './checks.ts': 'remembered/checks.ts',
      './envelope.ts': 'remembered/envelope.ts',
    },
    'src/bundle/checks.ts': {
      '../trust/certificate.ts': 'remembered/certificate.ts',
      '../trust/chain.ts': 'remembered/chain.ts',
    },
    'src/bundle/payload.ts': { '../trust/certificate.ts': 'remembered/certificate.ts' },
    'src/rotation/payloads.ts': { '../wire/record.ts': 'remembered/record.ts' },
    'agent/acceptance.ts': { '../src/bundle/envelope.ts': 'remembered/envelope.ts' },
    'agent/agent.ts': {
      '../src/identity/directory.ts': 'stand-ins/directory.ts',
      '../src/nats/connect.ts': 'stand-ins/connect.ts',
      './consume.ts': 'stand-ins/consume.ts',
    },
    'agent/work.ts': { './consume.ts': 'stand-ins/consume.ts' },
    'agent/reporter.ts': { '@nats-io/jetstream': 'stand-ins/jetstream.ts' },
    'agent/preflight.ts': { '../src/probe/probe.ts': 'stand-ins/probe.ts' },
    'agent/renewal.ts': {
      '../src/trust/certificate.ts': 'stand-ins/keys.ts',
      '../src/trust/csr.ts': 'stand-ins/keys.ts',
      '../src/trust/keys.ts': 'stand-ins/keys.ts',
      '../src/trust/proof.ts': 'stand-ins/keys.ts',
    },
  },
  import.meta.url,
)
