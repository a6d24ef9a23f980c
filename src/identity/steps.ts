/** Where can a process die while it changes an identity directory? Each of these is a crash point of the tests. */

/** In the order of one apply. */
export const DIRECTORY_STEPS = [
  /** The new state is written beside the old one. */
  'state:written',
  /** ... and has taken its place. */
  'state:replaced',
  /** The folder of the new generation is there, under a name that counts for nothing. */
  'stage:folder',
  'stage:ca.pem',
  'stage:tls.crt',
  'stage:tls.key',
  'stage:manifest.json',
  /** It was loaded back and checked. */
  'stage:checked',
  /** It has its name. */
  'stage:named',
  /** The public links are there. */
  'publish:links',
  /** The next `current` is made beside the present one. */
  'publish:link',
  /** ... and has taken its place. */
  'publish:switched',
  /** ... on disk, too. */
  'publish:durable',
  /** An old generation has lost its name. */
  'prune:unnamed',
  /** ... and is gone. */
  'prune:removed',
] as const

export type DirectoryStep = (typeof DIRECTORY_STEPS)[number]
/** Called right after each step. */
export type Trace = (step: DirectoryStep) => void
