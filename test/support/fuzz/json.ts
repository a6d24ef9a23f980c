/** JSON values taken apart by path, and put together with one part changed. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type Path = readonly (string | number)[]

/** The path of the value itself and of every part of it. */
export function pathsOf(value: Json, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  const entries = Array.isArray(value) ? [...value.entries()] : Object.entries(value)
  return [path, ...entries.flatMap(([key, one]) => pathsOf(one, [...path, key]))]
}

export function partAt(value: Json, path: Path): Json {
  let found: Json | undefined = value
  for (const key of path) found = (found as Record<string | number, Json>)[key]
  return found ?? null
}

/** A copy with the part at `path` exchanged; undefined takes it out. */
export function withPart(value: Json, [key, ...rest]: Path, given: Json | undefined): Json {
  if (key === undefined) return given ?? null
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string | number, Json>
  if (rest.length > 0) copy[key] = withPart(copy[key] ?? null, rest, given)
  else if (given !== undefined) copy[key] = given
  else if (Array.isArray(copy)) copy.splice(Number(key), 1)
  else delete copy[key]
  return copy
}
