/** Where does the join token come from? A file, stdin or a variable; arguments of a process are for everybody to read. */
import { text } from 'node:stream/consumers'
import { isToken, MAX_TOKEN } from '../src/enrolment/token.ts'
import { RotorError } from '../src/errors.ts'
import { readBounded } from '../src/identity/files.ts'

const VARIABLE = 'ROTOR_JOIN_TOKEN'

/**
 * The text of the token, undefined when none is given. The variable is taken out of the environment, so that no command
 * of a target gets it. Throws ERR_JOIN_TOKEN for a source without one, ERR_IDENTITY_* for a file that can not be read.
 */
export async function readJoinToken(source: string | undefined): Promise<string | undefined> {
  const variable = process.env[VARIABLE]
  delete process.env[VARIABLE]
  if (source === undefined) return variable === undefined || variable === '' ? undefined : variable
  if (isToken(source)) return source
  const given = source === '-' ? await text(process.stdin) : await readFile(source)
  if (given.trim() === '')
    throw new RotorError('ERR_JOIN_TOKEN', `${source}: expected a join token, found nothing`)
  return given
}

const readFile = async (path: string): Promise<string> =>
  (await readBounded(path, MAX_TOKEN)).toString('utf8')
