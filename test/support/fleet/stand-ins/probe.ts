import { RotorError } from '../../../../src/errors.ts'
import { currentMachine } from '../agent-machine.ts'

export const probeListener = (
  { address }: { readonly address: string },
  { material }: { readonly material: { readonly ca: string; readonly certificate: string } },
) =>
  currentMachine()
    .probe(address, material)
    .catch((cause) => {
      throw RotorError.from(new RotorError('ERR_PROBE_UNREACHABLE', `${address}: ${cause}`))
    })
