import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { agentEntry } from '../../../src/domain/agents.ts'
import { permittedNames, problemsOfPermitted } from '../../../src/domain/permitted.ts'
import { describeIssues } from '../../../src/wire/record.ts'

const agents = [
  { name: 'issuer', role: 'issuer' },
  { name: 'nats-1', role: 'server', names: { dns: ['nats-1.example.com', 'localhost'], ip: ['127.0.0.1'] } },
  { name: 'web-*', role: 'service', names: { dns: ['{name}.example.com'] } },
].map((entry) => agentEntry.parse(entry))

const problems = (permitted: object): string[] =>
  problemsOfPermitted({ domain: 'prod', agents, authorities: { permitted: permittedNames.parse(permitted) } })

describe('names that the authorities of a domain may certify', () => {
  it('fit the agents when every name of every entry is among them, or its kind is not limited', () => {
    assert.deepEqual(problemsOfPermitted({ domain: 'prod', agents }), [])
    assert.deepEqual(problems({}), [])
    const all = { dns: ['example.com', 'localhost'], ip: ['127.0.0.0/8'], uri: ['prod'] }
    assert.deepEqual(problems(all), [])
  })

  it('that leave out a name of an agent are told at once, with the entry: no verifier would take its certificate', () => {
    const expected = 'authorities.permitted: expected it to permit what agents.'
    assert.deepEqual(problems({ dns: ['example.com'] }), [`${expected}nats-1 gets: localhost`])
    assert.deepEqual(problems({ dns: ['nats-1.example.com', 'localhost'] }), [
      `${expected}web-* gets: web-x.example.com`,
    ])
    assert.deepEqual(problems({ ip: ['10.0.0.0/8'] }), [`${expected}nats-1 gets: 127.0.0.1`])
    assert.deepEqual(
      problems({ uri: ['.prod'] }),
      [
        'issuer gets: spiffe://prod/issuer',
        'nats-1 gets: spiffe://prod/nats-1',
        'web-* gets: spiffe://prod/web-x',
      ].map((text) => expected + text),
    )
  })

  it('are refused with their key and what was expected when they are none', () => {
    const parsed = permittedNames.safeParse({
      dns: ['*.a'],
      ip: ['10.0.0.1/8'],
      uri: ['spiffe://a'],
      mail: [],
    })
    const text = parsed.success ? '' : describeIssues(parsed.error)
    assert.match(text, /dns\.0: expected a DNS name/)
    assert.match(text, /ip\.0: expected a block of addresses/)
    assert.match(text, /uri\.0: expected a host/)
    assert.match(text, /mail/)
  })
})
