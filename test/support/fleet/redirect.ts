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
    'src/bundle/succession.ts': { './envelope.ts': 'remembered/envelope.ts' },
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
    'issuer/history/files.ts': {
      'node:fs/promises': 'stand-ins/key-files.ts',
      '../../src/identity/durable.ts': 'stand-ins/key-files.ts',
    },
    'issuer/lease/lease.ts': {
      '@nats-io/jetstream': 'stand-ins/jetstream.ts',
      '@nats-io/kv': 'stand-ins/kv.ts',
      '../live-watch.ts': 'stand-ins/live-watch.ts',
    },
    'issuer/loop/effects.ts': {
      '../../src/bundle/envelope.ts': 'remembered/envelope.ts',
      '../../src/trust/certificate.ts': 'remembered/certificate.ts',
      '../../src/trust/chain.ts': 'remembered/chain.ts',
      '../../src/wire/record.ts': 'remembered/record.ts',
      '../store.ts': 'stand-ins/store.ts',
    },
    'issuer/loop/fenced.ts': { '../store.ts': 'stand-ins/store.ts' },
    'issuer/loop/loop.ts': {
      '../../src/errors.ts': 'stand-ins/issuer-errors.ts',
      '../../src/rotation/advance.ts': 'stand-ins/advance.ts',
      '../../src/wire/record.ts': 'remembered/record.ts',
      '../store.ts': 'stand-ins/store.ts',
      './rehearsal.ts': 'stand-ins/loop-extras.ts',
      './report.ts': 'stand-ins/loop-extras.ts',
    },
    'issuer/loop/roots.ts': {
      '../../src/trust/certificate.ts': 'remembered/certificate.ts',
      '../../src/trust/chain.ts': 'remembered/chain.ts',
    },
    'issuer/orders.ts': {
      '../src/errors.ts': 'stand-ins/issuer-errors.ts',
      './store.ts': 'stand-ins/store.ts',
    },
    'issuer/own.ts': {
      '../src/bundle/envelope.ts': 'remembered/envelope.ts',
      '../src/wire/record.ts': 'remembered/record.ts',
    },
    'issuer/prober.ts': {
      '../src/probe/probe.ts': 'stand-ins/issuer-probe.ts',
      '../src/trust/certificate.ts': 'remembered/certificate.ts',
      '../src/trust/chain.ts': 'stand-ins/issuer-probe.ts',
      '../src/trust/csr.ts': 'stand-ins/keys.ts',
      '../src/trust/keys.ts': 'stand-ins/keys.ts',
    },
    'issuer/signers.ts': {
      'node:fs/promises': 'stand-ins/key-files.ts',
      '../src/bundle/envelope.ts': 'remembered/envelope.ts',
      '../src/identity/durable.ts': 'stand-ins/key-files.ts',
    },
    'issuer/turns.ts': {
      '@nats-io/jetstream': 'stand-ins/jetstream.ts',
      '@nats-io/kv': 'stand-ins/kv.ts',
    },
    'test/support/fleet/issuer-process.ts': {
      '../../../issuer/store.ts': 'stand-ins/store.ts',
      '../../../issuer/live-watch.ts': 'stand-ins/live-watch.ts',
    },
    'issuer/view.ts': { '../src/wire/record.ts': 'remembered/record.ts' },
  },
  import.meta.url,
)
