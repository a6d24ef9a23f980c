import { currentIssuer } from '../issuer-machine.ts'
import { currentProcess } from '../timeline.ts'

export async function watchKey(
  _nc: unknown,
  _bucket: string,
  key: string,
  _logger: unknown,
  changed: (revision: number) => void,
): Promise<() => Promise<void>> {
  currentIssuer().parts.broker.watch(key, currentProcess(), changed)
  return async () => {}
}
