/**
 * How do our child processes end when we do, even by SIGKILL? Beside each child runs a tiny shell that holds a pipe
 * from us: the kernel closes the pipe whatever way we end, and then the shell kills the child. No exit hook is
 * needed, and none would help against SIGKILL. Node has no way to ask Linux for PR_SET_PDEATHSIG.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { Socket } from 'node:net'

/** Ties the life of `child` to ours. Both must be running; the tie ends with the child. */
export function dieWithUs(child: ChildProcess): void {
  const { pid } = child
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  // its own process group: a signal for ours must not take the watchdog away
  const watchdog = spawn('/bin/sh', ['-c', 'read -r _; kill -s KILL "$1"', 'watchdog', String(pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watchdog.unref()
  // without a shell the child just lives as long as any other
  watchdog.once('error', () => {})
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref()
  child.once('exit', () => watchdog.kill('SIGKILL'))
}
