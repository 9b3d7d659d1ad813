import { describe, expect, test } from 'vitest'
import { formatEtcd, parseEtcdUrl } from '../../src/store/etcd-url.js'

describe('the address of an etcd store', () => {
  test.each([
    ['etcd://10.0.0.1', { endpoints: ['10.0.0.1:2379'], prefix: 'tsnet' }],
    ['etcd://10.0.0.1:2379/', { endpoints: ['10.0.0.1:2379'], prefix: 'tsnet' }],
    [
      'etcd://a,b:4001,[fd00::1]:2,[::1]/x/y/',
      { endpoints: ['a:2379', 'b:4001', '[fd00::1]:2', '[::1]:2379'], prefix: 'x/y' },
    ],
    ['etcds://etcd.example.org', { endpoints: ['etcd.example.org:2379'], prefix: 'tsnet', tls: {} }],
    ['etcd://u:p%40%3A%2Fs@a', { endpoints: ['a:2379'], prefix: 'tsnet', user: 'u', password: 'p@:/s' }],
    ['etcd://u:p:q@a', { endpoints: ['a:2379'], prefix: 'tsnet', user: 'u', password: 'p:q' }],
    [
      'etcd://a/p?ca=/etc/ca.pem&cert=/c.pem&key=/k%20y.pem',
      { endpoints: ['a:2379'], prefix: 'p', tls: { ca: '/etc/ca.pem', cert: '/c.pem', key: '/k y.pem' } },
    ],
  ])('%s is read', (text, want) => expect(parseEtcdUrl(text)).toEqual(want))

  test.each([
    ['etcd://', '"" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)'],
    ['etcd://a,', '"" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)'],
    ['etcd://a:0', '"a:0" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)'],
    ['etcd://a:65536', '"a:65536" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)'],
    ['etcd://fd00::1', '"fd00::1" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)'],
    ['etcd://a,a:2379', 'a:2379 is named twice in the address of etcd'],
    [
      'etcd://a//b',
      'etcd\'s prefix "/b" is not made of letters, digits, ".", "_" and "-", with single slashes between',
    ],
    ['etcd://a?ca=ca.pem', 'etcd\'s ca "ca.pem" must be an absolute path'],
    ['etcd://a?cert=/c', "etcd's cert and key are given both or neither"],
    ['etcd://a?ca=/a&ca=/b', "etcd's ca is given twice"],
    ['etcd://a?timeout=3', 'an etcd store has no "timeout": it is one of ca, cert, key'],
  ])('%s is refused with one sentence', (text, message) =>
    expect(() => parseEtcdUrl(text)).toThrow(expect.objectContaining({ kind: 'InvalidParameter', message })),
  )

  test.each([
    'http://a',
    'etcd:a',
    'lmdb',
    '',
    'etcd://u:/secret@a',
    'etcd://u:secret/x@a',
    'etcd://u:secret?x@a',
    'etcd://u:secret@a#b',
    'etcd://usecret@a',
    'etcd://u:%secret@a',
  ])('"%s" is refused, and the sentence has no password', text => {
    let message = ''
    try {
      parseEtcdUrl(text)
    } catch (error) {
      message = (error as Error).message
    }
    expect(message).not.toBe('')
    expect(message).not.toContain('secret')
  })

  test('for people it is written without login and files', () =>
    expect(formatEtcd(parseEtcdUrl('etcd://u:secret@a,b/x?ca=/ca.pem'))).toBe('etcds://a:2379,b:2379/x'))
})
