/** Takes ports as another process would, prints them, and holds them until its stdin ends. */
import { freePorts } from '../../../src/local/ports.ts'

console.log(JSON.stringify(await freePorts(Number(process.argv[2]))))
process.stdin.resume()
