/** The identity directory on a disk in memory. To be imported before any code of the product. */
import { redirect } from '../redirect.ts'

const FS = { 'node:fs/promises': 'fs.ts' }

redirect(
  {
    'src/identity/durable.ts': FS,
    'src/identity/files.ts': FS,
    'src/identity/generations.ts': FS,
    'src/identity/links.ts': FS,
    'src/identity/lock.ts': FS,
    'src/identity/read.ts': FS,
    'src/identity/recover.ts': FS,
  },
  import.meta.url,
)
