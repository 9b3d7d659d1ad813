import { hostname } from 'node:os'
import { describe, expect, test } from 'vitest'
import { collect, collectPairs, parsePid, parseRoute } from '../../src/cli/arguments.js'
import { checkConfig } from '../../src/cli/daemon.js'
import { daemonOptionTable, parseDaemonOptions } from '../../src/cli/daemon-options.js'
import { commandOf } from '../../src/cli/exec.js'
import { formatTable, listCell } from '../../src/cli/output.js'
import { chooseTarget } from '../../src/cli/target.js'
import { messageOf } from '../../src/errors.js'
import { CommandFailed } from '../../src/sandbox/command-failed.js'
import { findExecutable } from '../../src/sandbox/launch.js'

describe('values of flags', () => {
  test('a repeatable flag keeps its order', () => expect(collect('b', collect('a', undefined))).toEqual(['a', 'b']))

  test('a pair is split at the first =', () => {
    const pairs = collectPairs('-o')
    expect(pairs('b=2=3', pairs('a=', undefined))).toEqual({ a: '', b: '2=3' })
  })

  test('a pair may have any key, even one that objects have by nature', () => {
    const got = collectPairs('--label')('__proto__=x', { toString: 'y' })
    expect(Object.entries(got)).toEqual([
      ['toString', 'y'],
      ['__proto__', 'x'],
    ])
  })

  test.each(['mtu', '=5', ''])('the pair %o is refused', text =>
    expect(() => collectPairs('-o')(text, undefined)).toThrow(`-o ${text} must be KEY=VALUE`),
  )

  test('a key given twice is refused', () =>
    expect(() => collectPairs('-o')('mtu=2', { mtu: '1' })).toThrow('-o mtu is given twice'))

  test('a route is a CIDR, with or without a next hop', () => {
    expect(parseRoute('10.0.0.0/8')).toEqual({ destination: '10.0.0.0/8' })
    expect(parseRoute('fd00::/8,fe80::1')).toEqual({ destination: 'fd00::/8', via: 'fe80::1' })
  })

  test.each(['', ',', '10.0.0.0/8,', ',10.0.0.1', 'a,b,c'])('the route %o is refused', text =>
    expect(() => parseRoute(text)).toThrow('must be CIDR or CIDR,VIA'),
  )

  test('a process id is a positive whole number', () => expect(parsePid('42')).toBe(42))

  test.each(['', '0', '-1', '1.5', 'x', '0x10', '99999999'])('the process id %o is refused', text =>
    expect(() => parsePid(text)).toThrow(`--pid ${text} must be the id of a process`),
  )
})

describe('the words of a command', () => {
  test('may follow --, or stand alone', () => {
    expect(commandOf(['--', 'ip', '-j', 'addr'])).toEqual(['ip', '-j', 'addr'])
    expect(commandOf(['ip', '--', 'x'])).toEqual(['ip', '--', 'x'])
    expect(commandOf(['--', '-odd-name'])).toEqual(['-odd-name'])
  })

  test('are needed', () => expect(() => commandOf(['--'])).toThrow('no command is given'))

  test('do not begin with an option, which would be taken for the command', () =>
    expect(() => commandOf(['-q', '--', 'ls'])).toThrow('option -q stands where the command should be'))

  test('are looked up as a shell does', () => {
    expect(findExecutable('sh', '/nowhere:/bin')).toBe('/bin/sh')
    expect(findExecutable('/bin/sh')).toBe('/bin/sh')
    const failure = (command: string, path: string): CommandFailed => {
      try {
        findExecutable(command, path)
      } catch (error) {
        if (error instanceof CommandFailed) return error
      }
      throw new Error(`${command} was found`)
    }
    expect(failure('nothing-here', '/bin')).toMatchObject({ exitCode: 127, message: 'nothing-here: command not found' })
    expect(failure('', '/bin')).toMatchObject({ exitCode: 127 })
    expect(failure('/etc/passwd', '')).toMatchObject({ exitCode: 126, message: '/etc/passwd: not an executable file' })
    expect(failure('passwd', '/etc')).toMatchObject({ exitCode: 126 })
    expect(failure('/etc', '')).toMatchObject({ exitCode: 126 })
    expect(findExecutable('passwd', '/etc:/usr/bin')).toBe('/usr/bin/passwd')
  })
})

describe('tables', () => {
  test('line up their columns and end without spaces', () => {
    const columns = [
      ['NAME', (row: { name: string }) => row.name],
      ['LIST', () => listCell(['a', 'b'])],
      ['NONE', () => listCell([])],
    ] as const
    expect(formatTable(columns, [{ name: 'x' }, { name: 'longer' }])).toBe(
      ['NAME     LIST   NONE', 'x        a,b    -', 'longer   a,b    -', ''].join('\n'),
    )
  })

  test('of nothing are their header', () => expect(formatTable([['NAME', String]], [])).toBe('NAME\n'))
})

describe('options of the daemon', () => {
  test('have defaults', () =>
    expect(parseDaemonOptions()).toEqual({
      socket: '/run/tsnet/tsnet.sock',
      socketGroup: undefined,
      listen: undefined,
      tlsCa: undefined,
      tlsCert: undefined,
      tlsKey: undefined,
      pluginDir: '/run/docker/plugins',
      pluginName: 'tsnet',
      dockerSocket: '/var/run/docker.sock',
      stateDir: '/var/lib/tsnet',
      netnsDir: '/run/netns',
      store: { kind: 'lmdb' },
      hostName: hostname(),
      advertise: undefined,
      firewall: 'auto',
      publishDefault: 'any',
      repair: 'auto',
      logLevel: 'info',
    }))

  test('are each named as the field of their value', () => {
    for (const [key, { flag }] of Object.entries(daemonOptionTable))
      expect(flag.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())).toBe(key)
  })

  test('come from the first source that has them', () => {
    const got = parseDaemonOptions({ 'log-level': 'debug' }, { 'log-level': 'warn', socket: '/b' }, { socket: '/c' })
    expect(got).toMatchObject({ logLevel: 'debug', socket: '/b' })
  })

  test('take every value that they should', () =>
    expect(
      parseDaemonOptions({
        socket: '/run/x.sock',
        'socket-group': 'netadmin',
        listen: 'tcp://[fd00::1]:2443',
        'tls-ca': '/tls/ca.pem',
        'tls-cert': '/tls/cert.pem',
        'tls-key': 'key.pem',
        'plugin-dir': '/p',
        'plugin-name': 'net-2',
        'docker-socket': '/d/docker.sock',
        'state-dir': 'state',
        'netns-dir': '/n',
        store: 'lmdb',
        'host-name': 'node-1.example',
        advertise: 'eth0.100',
        firewall: 'nftables',
        'publish-default': 'lan',
        repair: 'off',
        'log-level': 'silent',
      }),
    ).toEqual({
      socket: '/run/x.sock',
      socketGroup: 'netadmin',
      listen: { host: 'fd00::1', port: 2443 },
      tlsCa: '/tls/ca.pem',
      tlsCert: '/tls/cert.pem',
      tlsKey: `${process.cwd()}/key.pem`,
      pluginDir: '/p',
      pluginName: 'net-2',
      dockerSocket: '/d/docker.sock',
      stateDir: `${process.cwd()}/state`,
      netnsDir: '/n',
      store: { kind: 'lmdb' },
      hostName: 'node-1.example',
      advertise: 'eth0.100',
      firewall: 'nftables',
      publishDefault: 'lan',
      repair: 'off',
      logLevel: 'silent',
    }))

  test.each(['192.0.2.1', 'fd00::1', 'eth0'])('advertise takes %s', text =>
    expect(parseDaemonOptions({ advertise: text }).advertise).toBe(text),
  )

  test.each([
    ['socket', '', 'InvalidParameter', 'a path must not be empty'],
    ['socket-group', 'a b', 'InvalidParameter', '"a b" is no name of a group'],
    ['listen', 'http://a:1', 'InvalidParameter', '"http://a:1" is not tcp://HOST:PORT'],
    ['listen', 'tcp://a:0', 'InvalidParameter', '"tcp://a:0" is not tcp://HOST:PORT'],
    ['listen', 'tcp://[10.0.0.1]:5', 'InvalidParameter', 'an IPv6 address stands in brackets'],
    ['listen', 'tcp://a:1', 'InvalidParameter', 'give --tls-ca, --tls-cert and --tls-key'],
    ['tls-key', '/k', 'InvalidParameter', '--tls-key is of no use without --listen'],
    ['plugin-name', 'a/b', 'InvalidParameter', 'plugin name "a/b" must be'],
    ['store', 'sqlite', 'InvalidParameter', 'store must be lmdb or etcd://'],
    ['store', 'etcd://h:0', 'InvalidParameter', '"h:0" is no HOST or HOST:PORT'],
    ['host-name', 'a b', 'InvalidParameter', 'host name "a b" must be'],
    ['advertise', '1.2.3.4.5::', 'InvalidParameter', 'advertised address "1.2.3.4.5::" is not'],
    ['advertise', 'a'.repeat(16), 'InvalidParameter', 'has 16 bytes'],
    ['firewall', 'nftable', 'InvalidParameter', '(did you mean nftables?)'],
    ['log-level', 'inf', 'InvalidParameter', '(did you mean info?)'],
  ])('--%s %s is refused', (flag, text, kind, message) => {
    expect(() => parseDaemonOptions({ [flag]: text })).toThrow(
      expect.objectContaining({ kind, message: expect.stringContaining(message) }),
    )
  })
})

describe('which daemon is asked', () => {
  const files = { TSNET_TLS_CA: '/ca', TSNET_TLS_CERT: '/cert', TSNET_TLS_KEY: '/key' }
  const tls = { ca: '/ca', cert: '/cert', key: '/key' }
  const at = (host: string, port: number) => ({ name: `tcp://${host}:${port}`, tcp: { host, port }, tls })

  test.each([
    [{}, {}, { name: '/run/tsnet/tsnet.sock', socketPath: '/run/tsnet/tsnet.sock' }],
    [{}, { TSNET_SOCKET: '/s', TSNET_HOST: '' }, { name: '/s', socketPath: '/s' }],
    [{ socket: '/t' }, { TSNET_SOCKET: '/s', TSNET_HOST: 'tcp://a:1' }, { name: '/t', socketPath: '/t' }],
    [{}, { TSNET_SOCKET: '/s', TSNET_HOST: 'tcp://a:1', ...files }, at('a', 1)],
    [{ host: 'tcp://b:2', tlsCa: '/ca', tlsCert: '/cert', tlsKey: '/key' }, { TSNET_HOST: 'tcp://a:1' }, at('b', 2)],
  ])('%j with %j', (flags, environment, want) => expect(chooseTarget(flags, environment)).toEqual(want))

  test.each([
    [{ socket: '/s', host: 'tcp://a:1' }, {}, '--socket and --host name two daemons'],
    [
      { host: 'tcp://a:1' },
      { TSNET_TLS_CA: '/ca' },
      '--host tcp://a:1 takes certificates on both sides: give --tls-ca',
    ],
    [{ tlsKey: '/k' }, {}, '--tls-key is of no use without --host'],
    [{ host: 'a:1' }, files, '"a:1" is not tcp://HOST:PORT'],
  ])('%j with %j is refused', (flags, environment, message) =>
    expect(() => chooseTarget(flags, environment)).toThrow(message),
  )
})

describe('a store on etcd', () => {
  test('is taken apart', () =>
    expect(parseDaemonOptions({ store: 'etcd://root:s%40crt@a:1,b/net?ca=/ca.pem' }).store).toEqual({
      kind: 'etcd',
      endpoints: ['a:1', 'b:2379'],
      prefix: 'net',
      user: 'root',
      password: 's@crt',
      tls: { ca: '/ca.pem' },
    }))

  test.each([
    'etcd://root:secret@a:99999',
    'etcd://root:secret@',
    'etcd://root:sec ret@a/x//y',
    'etcd://root:secret@a?cart=/x',
    'etcd:/root:secret@a',
    'etcd://root:secret%@a',
    'http://root:secret@a',
    'root:secret@a',
  ])('%s is refused without a word of the password', text => {
    const refusal = (): string => {
      try {
        parseDaemonOptions({ store: text })
      } catch (error) {
        return messageOf(error)
      }
      throw new Error('it was taken')
    }
    expect(refusal()).not.toMatch(/sec|ret@/)
  })
})

describe('the configuration file', () => {
  test('has the names of the flags', () =>
    expect(checkConfig({ 'log-level': 'debug' })).toEqual({ 'log-level': 'debug' }))

  test('may be empty', () => expect(checkConfig(null)).toEqual({}))

  test.each([
    [['a'], 'it must be lines of "key: value"'],
    ['text', 'it must be lines of "key: value"'],
    [{ 'log-levl': 'debug' }, 'unknown key log-levl (did you mean log-level?)'],
    [{ 'host-name': 5 }, 'the value of host-name must be text, not 5'],
    [{ socket: null }, 'the value of socket must be text, not null'],
  ])('refuses %j', (config, message) => expect(() => checkConfig(config)).toThrow(message))
})
