/** The thread of the peers. */
import { workerData } from 'node:worker_threads'
import { Peers } from './peers.ts'
import { answerCalls } from './thread.ts'

let opened: Peers | null = null

function peers(): Peers {
  if (opened === null) throw new TypeError('not open')
  return opened
}

answerCalls({
  open: async () => {
    opened = await Peers.open(workerData)
  },
  met: () => peers().met(),
  start: () => peers().start(),
  restartGaps: () => peers().restartGaps(),
  stop: () => peers().stop(),
  report: () => peers().report(),
  close: () => opened?.close(),
})
