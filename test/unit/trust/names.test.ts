import assert from 'node:assert/strict'
import { BlockList, isIPv6 } from 'node:net'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type Names,
  NO_NAMES,
  readCommonName,
  readNames,
  writeNames,
  writeSubject,
} from '../../../src/trust/names.ts'
import { der, sequence, x509 } from './oracle.ts'

/** What the library read must be what we read. */
function read(value: Uint8Array): Names {
  const names = readNames(value)
  const { items } = new x509.GeneralNames(value)
  const of = (type: string): string[] => items.filter((one) => one.type === type).map((one) => one.value)
  assert.deepEqual(names, { dns: of('dns'), ip: of('ip'), uri: of('url') })
  return names
}

const encoded = (name: x509.Name): Buffer => Buffer.from(name.toArrayBuffer())

describe('names in certificates', () => {
  it('reads back DNS names, IP addresses and URIs', () => {
    const names = {
      dns: ['localhost', '*.nats.example', '_nats._tcp.example', 'a-b.c1'],
      ip: ['127.0.0.1', '255.0.0.1', '::1', '::', '2001:db8::1', 'fe80::1:0:0:1'],
      uri: ['spiffe://prod/orders', 'urn:x:y'],
    }
    assert.deepEqual(read(writeNames(names)), names)
  })

  it('gives every address one form, whatever its text was', () => {
    const form = (ip: string): string | undefined => read(writeNames({ ...NO_NAMES, ip: [ip] })).ip[0]
    assert.equal(form('2001:0DB8:0:0:0:0:0:1'), '2001:db8::1')
    assert.equal(form('::ffff:1.2.3.4'), '::ffff:102:304')
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (address) => {
        const once = form(address)
        assert.ok(once !== undefined)
        const same = new BlockList()
        same.addAddress(address, isIPv6(address) ? 'ipv6' : 'ipv4')
        assert.ok(same.check(once, isIPv6(once) ? 'ipv6' : 'ipv4'), `${address} became ${once}`)
        assert.equal(form(once), once)
      }),
    )
  })

  it('refuses to write what is no name', () => {
    for (const dns of [
      '',
      'a b',
      'a..b',
      '-a',
      'a-',
      'ä.example',
      '*',
      'a.*',
      `${'a'.repeat(64)}.b`,
      'a\0.b',
      'a\n',
    ]) {
      assert.throws(() => writeNames({ ...NO_NAMES, dns: [dns] }), TypeError, dns)
    }
    for (const ip of ['', '1.2.3', '256.0.0.1', 'localhost', 'fe80::1%eth0', '[::1]', '1.2.3.4/8']) {
      assert.throws(() => writeNames({ ...NO_NAMES, ip: [ip] }), TypeError, ip)
    }
    for (const uri of ['', 'orders', 'spiffe://prod/a b', 'http://é', 'x:']) {
      assert.throws(() => writeNames({ ...NO_NAMES, uri: [uri] }), TypeError, uri)
    }
  })

  it('refuses names whose bytes would read differently elsewhere: NUL, control characters, odd address sizes', () => {
    const one = (tag: number, bytes: Buffer) => sequence(der(0x80 | tag, bytes))
    assert.throws(() => read(one(2, Buffer.from('good.example\0.evil'))), SyntaxError)
    assert.throws(() => read(one(2, Buffer.from('b\xfccher.example', 'latin1'))), SyntaxError)
    assert.throws(() => read(one(6, Buffer.from('spiffe://\x7f'))), SyntaxError)
    for (const size of [0, 1, 3, 5, 8, 15, 17, 32]) {
      assert.throws(() => read(one(7, Buffer.alloc(size, 1))), SyntaxError, `${size} bytes`)
    }
    assert.deepEqual(read(one(1, Buffer.from('a@b'))), NO_NAMES)
  })

  it('refuses names that are not in DER: bytes after them, lengths that are not minimal', () => {
    const name = der(0x82, Buffer.from('a.example'))
    assert.deepEqual(read(sequence(name)).dns, ['a.example'])
    const long = Buffer.concat([Buffer.of(0x82, 0x81, 9), Buffer.from('a.example')])
    for (const value of [
      Buffer.concat([sequence(name), Buffer.of(0)]),
      Buffer.concat([sequence(name), sequence(name)]),
      Buffer.concat([Buffer.of(0x30, 0x81, name.length), name]),
      Buffer.concat([Buffer.of(0x30, 0x80), name, Buffer.of(0, 0)]),
      sequence(long),
    ]) {
      assert.throws(() => read(value), value.toString('hex'))
    }
  })

  it('writes and reads a common name, and refuses empty, long and unprintable ones', () => {
    assert.equal(readCommonName(writeSubject('orders', 'prod')), 'orders')
    assert.equal(readCommonName(writeSubject('Bestellungen für Zoë')), 'Bestellungen für Zoë')
    assert.equal(readCommonName(sequence()), '')
    for (const name of ['#0201', 'a,O=b', '"a"', 'a\\,b', ' a ']) {
      assert.equal(readCommonName(writeSubject(name)), name)
    }
    for (const name of ['', 'x'.repeat(65), 'a\nb', 'a\0', '\u202e']) {
      assert.throws(() => writeSubject(name), TypeError, JSON.stringify(name))
    }
    const two = new x509.Name([{ CN: ['a'] }, { CN: ['b'] }])
    assert.throws(() => readCommonName(encoded(two)), /expected one common name/)
    assert.throws(
      () => readCommonName(encoded(new x509.Name([{ CN: ['#020101'] }]))),
      /expected the common name as text/,
    )
  })
})
