/** The one logger interface of the project, and the one place that makes a pino logger. */
import { destination, pino } from 'pino'

/** What we ask of a logger. pino fits; library mode takes any object of this shape. */
export interface Logger {
  debug(fields: object, message?: string): void
  info(fields: object, message?: string): void
  warn(fields: object, message?: string): void
  error(fields: object, message?: string): void
  child(fields: object): Logger
}

const SECRET_PATHS = [
  'key',
  'privateKey',
  'passphrase',
  'token',
  'secret',
  '*.key',
  '*.privateKey',
  '*.passphrase',
  '*.token',
  '*.secret',
]

/** Logs JSON lines to stderr: stdout belongs to the answer of a command. */
export function makeLogger(options: { level?: string; name?: string } = {}): Logger {
  return pino(
    {
      level: options.level ?? 'info',
      ...(options.name === undefined ? {} : { name: options.name }),
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: SECRET_PATHS, censor: '[redacted]' },
    },
    destination({ dest: 2, sync: true }),
  )
}

const nothing = (): void => {}
/** For library users who want none. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
}
