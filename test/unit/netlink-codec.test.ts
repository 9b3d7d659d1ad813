import { describe, expect, test } from 'vitest'
import { ip, ip4, ip6, mac } from '../../src/netlink/address-codecs.js'
import {
  asciiz,
  attr,
  be16,
  be32,
  bool8,
  type Codec,
  choice,
  DecodeError,
  decode,
  encode,
  flag,
  i32,
  list,
  message,
  nest,
  octets,
  pad,
  struct,
  table,
  u8,
  u16,
  u32,
  u64,
} from '../../src/netlink/codec.js'
import { frameSize, readFrames, socketAddress, writeFrames } from '../../src/netlink/framing.js'
import { linkMessage } from '../../src/netlink/tables.js'

const hex = <T>(codec: Codec<T>, value: T): string => encode(codec, value).toString('hex')

describe('values', () => {
  test.each([
    ['u8', hex(u8, 0xab), 'ab'],
    ['u16', hex(u16, 0x1234), '3412'],
    ['u32', hex(u32, 0x12345678), '78563412'],
    ['i32', hex(i32, -2), 'feffffff'],
    ['u64', hex(u64, 1n), '0100000000000000'],
    ['be16', hex(be16, 4789), '12b5'],
    ['be32', hex(be32, 1), '00000001'],
    ['bool8', hex(bool8, true), '01'],
    ['flag', hex(flag, true), ''],
    ['asciiz', hex(asciiz, 'eth0'), '6574683000'],
    ['asciiz of two bytes a letter', hex(asciiz, 'ü'), 'c3bc00'],
    ['ip4', hex(ip4, '10.30.0.255'), '0a1e00ff'],
    ['ip6', hex(ip6, 'fd00:20::1'), 'fd000020000000000000000000000001'],
    ['ip of IPv4', hex(ip, '255.255.255.255'), 'ffffffff'],
    ['ip of IPv6', hex(ip, '::'), '0'.repeat(32)],
    ['mac', hex(mac, '02:42:AC:11:00:02'), '0242ac110002'],
    ['octets', hex(octets(3), Uint8Array.of(1, 2)), '010200'],
  ])('%s has the bytes of the kernel', (_, got, want) => {
    expect(got).toBe(want)
  })

  test.each([
    ['an octet over 255', ip4, '10.0.0.256'],
    ['three octets', ip4, '10.0.0'],
    ['a prefix', ip4, '10.0.0.0/8'],
    ['a zone', ip6, 'fe80::1%eth0'],
    ['an IPv6 prefix', ip6, 'fd00::/64'],
    ['no IPv6', ip6, 'fd00:::1'],
    ['no MAC', mac, '02:42:zz'],
    ['a NUL within a string', asciiz, 'a\0b'],
  ])('%s does not encode', (_, codec, value) => {
    expect(() => encode(codec, value)).toThrow(RangeError)
  })

  test('a string ends at its NUL, or with its attribute', () => {
    expect(decode(asciiz, Buffer.from('eth0\0junk'))).toBe('eth0')
    expect(decode(asciiz, Buffer.from('eth0'))).toBe('eth0')
    expect(decode(asciiz, Buffer.alloc(0))).toBe('')
  })

  test('a number without a word decodes to the other one, a word without a number does not encode', () => {
    const mode = choice(u8, { a: 1, b: 2 }, 'a')
    expect(decode(mode, Buffer.of(2))).toBe('b')
    expect(decode(mode, Buffer.of(9))).toBe('a')
    expect(() => encode(mode, 'toString' as 'a')).toThrow(RangeError)
  })

  test('too few bytes are a DecodeError', () => {
    for (const codec of [u8, u16, u32, i32, be16, be32, ip4, ip6, octets(3)] as Codec<unknown>[])
      expect(() => decode(codec, Buffer.alloc(0))).toThrow(DecodeError)
  })
})

describe('tables', () => {
  const rows = { mtu: attr(4, u32), name: attr(3, asciiz), inner: nest(18, table('inner', { id: attr(1, u8) })) }
  const codec = table('test', rows)

  test('an attribute is its length, its number, its value, and padding to four bytes', () => {
    expect(hex(codec, { name: 'eth0', mtu: 1500 })).toBe('09000300' + '6574683000' + '000000' + '08000400' + 'dc050000')
  })

  test('an attribute that holds attributes is marked as such when sent, and read with or without the mark', () => {
    expect(hex(codec, { inner: { id: 7 } })).toBe('0c001280' + '05000100' + '07000000')
    expect(decode(codec, Buffer.from('0c0012800500010007000000', 'hex'))).toEqual({ inner: { id: 7 } })
    expect(decode(codec, Buffer.from('0c0012000500010007000000', 'hex'))).toEqual({ inner: { id: 7 } })
  })

  test('an attribute without a row is passed over', () => {
    expect(decode(codec, Buffer.from('0800630001020304' + '08000400dc050000', 'hex'))).toEqual({ mtu: 1500 })
  })

  test.each([
    ['longer than its message', '0c000400dc050000'],
    ['shorter than its header', '03000400'],
    ['of a length that would never advance', '00000400'],
    ['too short for its value', '06000400dc050000'],
  ])('an attribute %s is a DecodeError', (_, bytes) => {
    expect(() => decode(codec, Buffer.from(bytes, 'hex'))).toThrow(DecodeError)
  })

  test('a number that stands twice is refused when the table is made', () => {
    expect(() => table('twice', { a: attr(1, u8), b: attr(1, u16) })).toThrow('table twice: attribute 1 stands twice')
  })

  test('a key without a row does not encode: a misspelt one would be lost in silence', () => {
    expect(() => encode(codec, { mtv: 1 } as object)).toThrow('table test has no attribute "mtv"')
  })

  test('an attribute over 65535 bytes does not encode', () => {
    expect(() => encode(codec, { name: 'x'.repeat(65_535) })).toThrow(RangeError)
  })

  test('lists hold values of one number', () => {
    expect(hex(list(54, asciiz), ['a', 'b'])).toBe('06003600' + '61000000' + '06003600' + '62000000')
    expect(decode(list(54, asciiz), encode(list(54, asciiz), ['a', 'b']))).toEqual(['a', 'b'])
  })

  test('a struct has its padding, a message its header and then attributes on a boundary of four', () => {
    const header = struct([
      ['a', u8],
      ['_', pad(1)],
      ['b', u32],
    ])
    expect(header.size).toBe(6)
    const whole = message(header, table('m', { c: attr(1, u8) }))
    expect(hex(whole, { a: 1, b: 2, attrs: { c: 3 } })).toBe('0100' + '02000000' + '0000' + '05000100' + '03000000')
    expect(decode(whole, Buffer.from('010002000000', 'hex'))).toEqual({ a: 1, b: 2, attrs: {} })
  })

  test('the kind of a link says which table its data is in, and that of its master the slave data', () => {
    const header = { family: 0, type: 0, index: 0, flags: 0, change: 0 }
    const value = {
      ...header,
      attrs: {
        info: { kind: 'macvlan', data: { mode: 'bridge' }, slaveKind: 'bridge', slaveData: { isolated: true } },
      },
    } as const
    expect(decode(linkMessage, encode(linkMessage, value))).toEqual(value)
    // @ts-expect-error a bridge has no vni
    const wrong = () => encode(linkMessage, { ...header, attrs: { info: { kind: 'bridge', data: { id: 1 } } } })
    expect(wrong).toThrow(RangeError)
    // @ts-expect-error no kind has this name
    expect(() => encode(linkMessage, { ...header, attrs: { info: { kind: 'brigde', data: {} } } })).toThrow(RangeError)
  })

  test('a kind that we have no table for is read without its data', () => {
    const kind = Buffer.from('wireguard\0').toString('hex')
    const raw = Buffer.from(`${'00'.repeat(16)}1c0012800e000100${kind}00000800028001020304`, 'hex')
    expect(decode(linkMessage, raw).attrs.info).toEqual({ kind: 'wireguard' })
  })
})

describe('framing', () => {
  const frame = (type: number, flags: number, sequence: number, body: string): string => {
    const bytes = Buffer.alloc(256)
    const size = writeFrames(bytes, [{ type, flags, body: Buffer.from(body, 'hex') }], sequence)
    return bytes.toString('hex', 0, size)
  }
  const read = (text: string) => {
    const bytes = Buffer.from(text, 'hex')
    return readFrames(bytes, bytes.length)
  }
  const requestHeader = '20000000' + '1000' + '0506' + '05000000' + '00000000'

  test('a request has its length, type, flags and number; the next starts on a boundary of four', () => {
    const bytes = Buffer.alloc(64, 0xee)
    const body = Buffer.from('aabbccddee', 'hex')
    const size = writeFrames(
      bytes,
      [
        { type: 16, flags: 5, body },
        { type: 17, flags: 1, body: Buffer.alloc(0) },
      ],
      0xffff_ffff,
    )
    expect(bytes.toString('hex', 0, size)).toBe(
      '15000000' +
        '1000' +
        '0500' +
        'ffffffff' +
        '00000000' +
        'aabbccddee' +
        '000000' +
        ('10000000' + '1100' + '0100' + '00000000' + '00000000'),
    )
    expect(frameSize(body)).toBe(24)
  })

  test('a socket address has family, padding, port and groups', () => {
    expect(socketAddress(16, []).toString('hex')).toBe('1000' + '0000' + '00000000' + '00000000')
    expect(socketAddress(16, [1, 11]).toString('hex')).toBe('1000' + '0000' + '00000000' + '01040000')
  })

  test('an acknowledgement without an error', () => {
    expect(read(frame(2, 0x100, 5, `00000000${requestHeader}`))).toEqual([
      { what: 'ack', sequence: 5, interrupted: false },
    ])
  })

  test("an error with the kernel's words and the place of the attribute", () => {
    const words = Buffer.from('Invalid MTU\0').toString('hex')
    const body = `eaffffff${requestHeader}${'10000100'}${words}${'0800020028000000'}`
    expect(read(frame(2, 0x300, 5, body))).toMatchObject([
      { what: 'ack', failure: { errno: 22, text: 'Invalid MTU', offset: 0x28 } },
    ])
  })

  test('an error that repeats the whole request before its words', () => {
    const words = Buffer.from('no\0').toString('hex')
    const body = `eaffffff${requestHeader}${'11'.repeat(16)}${'07000100'}${words}00`
    expect(read(frame(2, 0x200, 5, body))).toMatchObject([{ failure: { errno: 22, text: 'no' } }])
  })

  test('a missing attribute is said where the kernel has no words', () => {
    expect(read(frame(2, 0x300, 5, `eaffffff${requestHeader}${'0800050003000000'}`))).toMatchObject([
      { failure: { errno: 22, text: 'attribute 3 is missing' } },
    ])
  })

  test('the end of a list, also one that failed', () => {
    expect(read(frame(3, 2, 5, '00000000'))).toEqual([{ what: 'done', sequence: 5, interrupted: false }])
    expect(read(frame(3, 2, 5, 'edffffff'))).toMatchObject([{ what: 'done', failure: { errno: 19 } }])
    expect(read(frame(3, 2, 5, ''))).toEqual([{ what: 'done', sequence: 5, interrupted: false }])
  })

  test('an interrupted list is marked', () => {
    expect(read(frame(16, 0x12, 5, 'aabbccdd'))).toEqual([
      { what: 'message', type: 16, port: 0, sequence: 5, interrupted: true, start: 16, end: 20 },
    ])
  })

  test.each([
    ['shorter than its header', '0f000000' + '1000000000000000' + '00000000'],
    ['longer than what was received', '11000000' + '1000000000000000' + '00000000'],
    ['cut off within its header', '10000000' + '1000'],
  ])('a message %s is a DecodeError', (_, text) => {
    expect(() => read(text)).toThrow(DecodeError)
  })
})
