/** A worker thread that is asked one thing after the other. Both ends: `CallThread` for the owner, `answerCalls` inside. */
import { once } from 'node:events'
import { parentPort, Worker } from 'node:worker_threads'
import { RotorError } from '../../src/errors.ts'

interface Call {
  readonly name: string
  readonly argument: unknown
}
type Answer = { readonly result: unknown } | { readonly failure: string }

export class CallThread implements AsyncDisposable {
  readonly #what: string
  readonly #worker: Worker
  #turn: Promise<unknown> = Promise.resolve()

  /** @param what for messages; @param data plain data, `workerData` inside */
  constructor(what: string, module: URL, data: unknown) {
    this.#what = what
    this.#worker = new Worker(module, { workerData: data })
    // the call that waits gets it too
    this.#worker.on('error', () => {})
  }

  /** One call at a time. Throws ERR_INTERNAL with the reason when it failed there, or the thread ended. */
  call(name: string, argument: unknown = null): Promise<unknown> {
    const result = this.#turn.then(() => this.#ask({ name, argument }))
    this.#turn = result.catch(() => {})
    return result
  }

  /** Ends the thread as it is: what it holds open should be closed by a call before. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate()
  }

  async #ask(call: Call): Promise<unknown> {
    const ended = new AbortController()
    const onExit = () => ended.abort()
    this.#worker.once('exit', onExit)
    try {
      this.#worker.postMessage(call)
      const [answer] = (await once(this.#worker, 'message', { signal: ended.signal })) as [Answer]
      if ('failure' in answer) throw new Error(answer.failure)
      return answer.result
    } catch (cause) {
      const reason = ended.signal.aborted
        ? 'the thread ended'
        : cause instanceof Error
          ? cause.message
          : cause
      throw new RotorError('ERR_INTERNAL', `${this.#what}, ${call.name}: ${reason}`, { cause })
    } finally {
      this.#worker.off('exit', onExit)
    }
  }
}

/** Answers every call by the function of its name. */
export function answerCalls(calls: Readonly<Record<string, (argument: never) => unknown>>): void {
  const port = parentPort
  if (port === null) throw new TypeError('expected to run as a worker thread')
  const answer = async ({ name, argument }: Call): Promise<unknown> => await calls[name]?.(argument as never)
  port.on('message', (call: Call) => {
    void answer(call).then(
      (result) => port.postMessage({ result } satisfies Answer),
      (cause) => port.postMessage({ failure: RotorError.from(cause).message } satisfies Answer),
    )
  })
}
