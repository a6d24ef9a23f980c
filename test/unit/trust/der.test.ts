import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { bitString, DerReader, der, TAG } from '../../../src/trust/der.ts'

const read = (hex: string): DerReader => new DerReader(Buffer.from(hex, 'hex'), 'test')
const refuses = (hex: string, how: (reader: DerReader) => unknown): void =>
  assert.throws(() => how(read(hex)), SyntaxError, hex)

describe('DER', () => {
  it('reads back every value it writes, with the shortest length', () => {
    for (const size of [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000]) {
      const content = Buffer.alloc(size, 7)
      const reader = new DerReader(der(TAG.octetString, content), 'test')
      assert.ok(reader.take(TAG.octetString).content.equals(content))
      reader.end()
    }
    assert.ok(new DerReader(bitString(Buffer.of(1, 2)), 'test').bits().equals(Buffer.of(1, 2)))
  })

  it('refuses lengths that are indefinite, longer than needed, or past the end', () => {
    for (const hex of [
      '0480',
      '0481',
      '048101',
      '04810100',
      '04820001',
      '0482008000',
      '0402ff',
      '04',
      '',
      '0485',
    ]) {
      refuses(hex, (reader) => reader.any())
    }
    refuses('1f0100', (reader) => reader.any())
  })

  it('never reads past a value into what follows it', () => {
    // inside a sequence of 2 or 3 bytes: a length of more, a length that is cut off, no value at all
    for (const hex of ['3003040200070707', '3002048105070707', '30020482000507']) {
      refuses(hex, (reader) => reader.sequence().any())
      refuses(hex, (reader) => reader.take(TAG.sequence).reader('inner').any())
    }
    const empty = read('30000400').sequence()
    assert.equal(empty.more, false)
    assert.equal(empty.optional(TAG.octetString), null)
    assert.throws(() => empty.take(TAG.octetString), SyntaxError)
    const outer = read('3003040107040109')
    const inner = outer.take(TAG.sequence)
    assert.equal(inner.content.toString('hex'), '040107')
    assert.equal(inner.whole.toString('hex'), '3003040107')
    assert.equal(inner.reader('inner').take(TAG.octetString).content.toString('hex'), '07')
    assert.equal(outer.take(TAG.octetString).content.toString('hex'), '09')
    outer.end()
  })

  it('refuses another tag, and bytes after the value', () => {
    refuses('0400', (reader) => reader.sequence())
    refuses('', (reader) => reader.take(TAG.set))
    assert.equal(read('0400').optional(TAG.set), null)
    refuses('04000400', (reader) => {
      reader.any()
      reader.end()
    })
  })

  it('takes integers in their shortest form only', () => {
    for (const hex of ['0200', '02020001', '0202ffff', '0202007f']) refuses(hex, (reader) => reader.integer())
    for (const hex of ['020100', '0201ff', '02020080', '0202ff7f']) read(hex).integer()
    assert.equal(read('02047fffffff').smallInteger(), 2 ** 31 - 1)
    for (const hex of ['0201ff', '02050080000000', '0205 0100000000']) {
      refuses(hex.replace(' ', ''), (reader) => reader.smallInteger())
    }
  })

  it('takes a flag as TRUE or not at all', () => {
    assert.equal(read('0101ff').flag(), true)
    assert.equal(read('0400').flag(), false)
    for (const hex of ['010100', '010101', '0100', '0102ffff']) refuses(hex, (reader) => reader.flag())
  })

  it('takes named bits without zeros at their end, and with unused bits of zero', () => {
    assert.equal(read('03020780').namedBits(), 1)
    assert.equal(read('03020106').namedBits(), 2 ** 5 + 2 ** 6)
    assert.equal(read('0303070080').namedBits(), 2 ** 8)
    assert.equal(read('030100').namedBits(), 0)
    for (const hex of [
      '0300',
      '030101',
      '03020080',
      '03020781',
      '0302 0880',
      '03020000',
      '03060080808080 80',
    ]) {
      refuses(hex.replace(' ', ''), (reader) => reader.namedBits())
    }
  })

  it('reads object identifiers, and refuses those that are cut, padded or huge', () => {
    const ids = {
      '060109': '0.9',
      '06032b6570': '1.3.101.112',
      '06092a864886f70d01010b': '1.2.840.113549.1.1.11',
      '0603551d11': '2.5.29.17',
      '0603883701': '2.999.1',
      '06056086480165': '2.16.840.1.101',
    }
    for (const [hex, id] of Object.entries(ids)) assert.equal(read(hex).objectId(), id)
    for (const hex of ['0600', '060180', '06028001', '060281', '06022a80', '060a2affffffffffffffff7f']) {
      refuses(hex, (reader) => reader.objectId())
    }
  })

  it('throws nothing but SyntaxError, whatever it reads', () => {
    const reads: ((reader: DerReader) => unknown)[] = [
      (reader) => reader.objectId(),
      (reader) => reader.smallInteger(),
      (reader) => reader.namedBits(),
      (reader) => reader.bits(),
      (reader) => reader.flag(),
      (reader) => reader.sequence().any(),
    ]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), fc.constantFrom(...reads), (bytes, how) => {
        try {
          how(new DerReader(bytes, 'test'))
        } catch (error) {
          assert.ok(error instanceof SyntaxError, String(error))
        }
      }),
      { numRuns: 2000 },
    )
  })
})
