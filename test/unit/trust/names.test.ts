import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { context, der, readDer, sequence } from '../../../src/trust/der.ts'
import {
  ipToBytes,
  NO_NAMES,
  readCommonName,
  readNames,
  writeNames,
  writeSubject,
} from '../../../src/trust/names.ts'

describe('names in certificates', () => {
  it('reads back DNS names, IP addresses and URIs', () => {
    const names = {
      dns: ['localhost', '*.nats.example', '_nats._tcp.example', 'a-b.c1'],
      ip: ['127.0.0.1', '255.0.0.1', '::1', '::', '2001:db8::1', 'fe80::1:0:0:1'],
      uri: ['spiffe://prod/orders', 'urn:x:y'],
    }
    assert.deepEqual(readNames(writeNames(names)), names)
  })

  it('gives every address one form, whatever its text was', () => {
    const read = (ip: string): string | undefined => readNames(writeNames({ ...NO_NAMES, ip: [ip] })).ip[0]
    assert.equal(read('2001:0DB8:0:0:0:0:0:1'), '2001:db8::1')
    assert.equal(read('::ffff:1.2.3.4'), '::ffff:102:304')
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (address) => {
        const once = read(address)
        assert.ok(once !== undefined)
        assert.deepEqual(ipToBytes(once), ipToBytes(address))
        assert.equal(read(once), once)
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
    const one = (tag: number, bytes: Buffer) => sequence(der(context(tag, false), bytes))
    assert.throws(() => readNames(one(2, Buffer.from('good.example\0.evil'))), SyntaxError)
    assert.throws(() => readNames(one(6, Buffer.from('spiffe://\x7f'))), SyntaxError)
    assert.throws(() => readNames(one(7, Buffer.alloc(5))), SyntaxError)
    assert.deepEqual(readNames(one(1, Buffer.from('a@b'))), NO_NAMES)
  })

  it('writes and reads a common name, and refuses empty, long and unprintable ones', () => {
    assert.equal(readCommonName(writeSubject('orders', 'prod')), 'orders')
    assert.equal(readCommonName(writeSubject('Bestellungen für Zoë')), 'Bestellungen für Zoë')
    assert.equal(readCommonName(sequence()), '')
    for (const name of ['', 'x'.repeat(65), 'a\nb', 'a\0', '\u202e']) {
      assert.throws(() => writeSubject(name), TypeError, JSON.stringify(name))
    }
    const [one, two] = ['a', 'b'].map((name) => readDer(writeSubject(name)).content)
    assert.throws(
      () => readCommonName(sequence(one ?? Buffer.alloc(0), two ?? Buffer.alloc(0))),
      /expected one common name/,
    )
  })
})
