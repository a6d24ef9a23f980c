import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  DerReader,
  der,
  oid,
  readBoolean,
  readDer,
  readOid,
  readSequence,
  readUnsigned,
  sequence,
  TAG,
  time,
} from '../../../src/trust/der.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')

describe('DER', () => {
  it('reads back what it wrote, at every size of length', () => {
    for (const size of [0, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000]) {
      const content = Buffer.alloc(size, 7)
      const value = readDer(der(TAG.octetString, content), TAG.octetString)
      assert.deepEqual(Buffer.from(value.content), content)
    }
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (parts) => {
        const encoded = sequence(...parts.map((part) => der(TAG.octetString, part)))
        const read = readSequence(encoded).rest()
        assert.deepEqual(
          read.map(({ content }) => Buffer.from(content)),
          parts.map((part) => Buffer.from(part)),
        )
      }),
    )
  })

  it('refuses lengths that are not minimal, indefinite, too long or cut off', () => {
    for (const bytes of [
      '04 81 01 00',
      '04 82 00 80',
      '04 80 00 00',
      '04 05 00',
      '04',
      '',
      '04 84 00000001 00',
      '1f 01 00',
    ]) {
      assert.throws(() => readDer(hex(bytes)), SyntaxError, bytes)
    }
    assert.throws(() => readDer(hex('0400 00')), /unexpected bytes/)
    assert.throws(() => readDer(hex('0400'), TAG.sequence), /expected tag 0x30, found 0x4/)
  })

  it('refuses broken booleans, integers and object identifiers', () => {
    assert.throws(() => readBoolean(hex('0000')), SyntaxError)
    for (const integer of ['', '80', '010203040506'])
      assert.throws(() => readUnsigned(hex(integer)), SyntaxError)
    for (const id of ['', '80', '2a86', 'ffffffffffffffffffff01'])
      assert.throws(() => readOid(hex(id)), SyntaxError, id)
    assert.throws(() => new DerReader(hex('')).next(), SyntaxError)
  })

  it('writes object identifiers that it reads back', () => {
    for (const id of [
      '2.5.29.19',
      '1.2.840.113549.1.1.11',
      '1.3.101.112',
      '2.16.840.1.101.3.4.2.1',
      '2.999.3',
    ]) {
      assert.equal(readOid(readDer(oid(id), TAG.oid).content), id)
    }
    assert.deepEqual(oid('1.2.840.113549'), hex('06 06 2a864886f70d'))
  })

  it('writes dates through 2049 as UTCTime and later ones as GeneralizedTime (RFC 5280 4.1.2.5)', () => {
    const written = (text: string): [number, string] => {
      const { tag, content } = readDer(time(Date.parse(text)))
      return [tag, Buffer.from(content).toString()]
    }
    assert.deepEqual(written('2026-11-22T01:02:03.999Z'), [TAG.utcTime, '261122010203Z'])
    assert.deepEqual(written('2049-12-31T23:59:59Z'), [TAG.utcTime, '491231235959Z'])
    assert.deepEqual(written('2050-01-01T00:00:00Z'), [TAG.generalizedTime, '20500101000000Z'])
  })
})
