import type { LiveWatchOptions } from '../../../../issuer/live-watch.ts'
import { currentIssuer } from '../issuer-machine.ts'
import { currentProcess } from '../timeline.ts'

/** A watch that never falls silent. Who watches one key looks at nothing of an entry but its revision. */
export async function liveWatch(
  _nc: unknown,
  { key = '>', take }: Pick<LiveWatchOptions, 'key' | 'take'>,
): Promise<() => Promise<void>> {
  const told = (revision: number): void => take({ revision } as Parameters<typeof take>[0])
  currentIssuer().parts.broker.watch(key, currentProcess(), told)
  return async () => {}
}
