/** Answers of pure functions, by their arguments. Forgotten when there are too many: a run needs a few hundred. */
const MOST = 5_000

type Answer<R> = { readonly value: R } | { readonly thrown: unknown }

/**
 * `work` with its answers, and what it threw, remembered. `keyOf` tells all arguments apart that matter: a long text
 * that comes often, and whatever else there is.
 */
export function remembered<A extends readonly unknown[], R>(
  work: (...given: A) => R,
  keyOf: (...given: A) => readonly [text: string, rest?: string | undefined],
): (...given: A) => R {
  const known = new Map<string, Map<string, Answer<R>>>()
  return (...given) => {
    const [text, rest = ''] = keyOf(...given)
    let answers = known.get(text)
    if (answers === undefined) {
      if (known.size >= MOST) known.clear()
      answers = new Map()
      known.set(text, answers)
    }
    let answer = answers.get(rest)
    if (answer === undefined) {
      answer = answerOf(() => work(...given))
      answers.set(rest, answer)
    }
    if ('thrown' in answer) throw answer.thrown
    return answer.value
  }
}

function answerOf<R>(work: () => R): Answer<R> {
  try {
    return { value: work() }
  } catch (thrown) {
    return { thrown }
  }
}

const texts = new WeakMap<Uint8Array, string>()

/** Bytes as a key. Assumption: nobody writes into them. */
export function textOf(bytes: Uint8Array): string {
  let text = texts.get(bytes)
  if (text === undefined) {
    text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
    texts.set(bytes, text)
  }
  return text
}
