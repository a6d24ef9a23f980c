/** What a machine does not let a test do. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'

/** Skips a test for a right or a tool that this machine does not give, with the reason; fails where it must be given. */
export function without(t: TestContext, reason: string): void {
  if (process.env.CI === 'true') assert.fail(reason)
  t.skip(reason)
}
