/** How commands talk: text for people, JSON for machines, and never both on stdout. */
import { styleText } from 'node:util'
import { RotorError } from '../src/errors.ts'
import { type Duration, formatDuration } from '../src/time.ts'

export interface Output {
  readonly json: boolean
  /** One answer: `value` as JSON, or `text` for people. */
  answer(value: unknown, text: string): void
  /** One event of a long-running command. */
  event(value: { readonly type: string } & Record<string, unknown>, text: string | null): void
  /** Progress for people; goes to stderr, so stdout stays the answer. */
  note(text: string): void
}

export function makeOutput(json: boolean): Output {
  const line = (text: string) => process.stdout.write(`${text}\n`)
  return {
    json,
    answer: (value, text) => line(json ? JSON.stringify(value) : text),
    event: (value, text) => {
      if (json) line(JSON.stringify(value))
      else if (text !== null) line(text)
    },
    note: (text) => {
      if (!json) process.stderr.write(`${text}\n`)
    },
  }
}

type Colour = 'green' | 'yellow' | 'red' | 'cyan' | 'dim' | 'bold'

/** Colours only on a terminal, and not with NO_COLOR (no-color.org). */
export const colour = (name: Colour, text: string): string =>
  styleText(name, text, { stream: process.stdout })

/** Columns aligned by what is seen, colours not counted. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, seen(cell))
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell + ' '.repeat((widths[i] ?? 0) - seen(cell))))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g')
const seen = (text: string): number => text.replaceAll(ESCAPES, '').length

/** "in 3h12m", "2m ago": rounded to what a person wants to know. */
export function relative(instant: number, now: number): string {
  const gap = instant - now
  return gap >= 0 ? `in ${coarse(gap)}` : `${coarse(-gap)} ago`
}

function coarse(ms: Duration): string {
  const step = ms >= 3_600_000 ? 60_000 : ms >= 10_000 ? 1000 : 100
  return formatDuration(Math.round(ms / step) * step)
}

/** Says an error and returns the exit code. */
export function sayError(cause: unknown, json: boolean): number {
  const error = RotorError.from(cause)
  if (json) process.stdout.write(`${JSON.stringify({ type: 'error', ...error.toJSON() })}\n`)
  else process.stderr.write(`rotor: ${error.message}\n  ${error.code}: ${error.action}\n`)
  if (error.code === 'ERR_INTERNAL' && error.cause instanceof Error)
    process.stderr.write(`${error.cause.stack}\n`)
  return error.exitCode
}
