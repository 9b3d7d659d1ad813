import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { listenUnix, type UnixServer, type UnixServerOptions } from '../../src/net/unix-server.js'

let dir: string
const open: UnixServer[] = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tst-us-'))
})
afterEach(async () => {
  await Promise.all(open.splice(0).map(server => server.close()))
  rmSync(dir, { recursive: true })
})

const hello = (): Server => createServer((_, response) => response.end('hello'))

async function listen(server: Server, path: string, options: UnixServerOptions = { mode: 0o660 }) {
  const listening = await listenUnix(server, path, options)
  open.push(listening)
  return listening
}

const get = (socketPath: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: '/' }, response => {
      let text = ''
      response.on('data', chunk => {
        text += chunk
      })
      response.on('end', () => resolve(text))
      response.on('error', reject)
    })
    sent.on('error', reject)
    sent.end()
  })

/** What was thrown, as the user would see it. */
const failure = async (work: Promise<unknown>): Promise<{ kind: string; message: string }> =>
  work.then(
    () => ({ kind: 'none', message: 'it did not fail' }),
    error => ({ kind: kindOf(error), message: messageOf(error) }),
  )

/** A socket file whose process was killed: nobody removed it and nobody listens. */
async function leaveDeadSocket(path: string): Promise<void> {
  const child = spawn(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(path)})`])
  while (!existsSync(path)) await delay(5)
  child.kill('SIGKILL')
  await once(child, 'exit')
}

describe('listenUnix', () => {
  it('answers at its path, in a directory that it makes', async () => {
    const path = join(dir, 'a/b/t.sock')
    await listen(hello(), path)
    expect(await get(path)).toBe('hello')
  })

  it('shows nothing but the finished socket: the path appears answering, with its mode, and no other entry stays', async () => {
    const path = join(dir, 'tsnet.sock')
    const seen: string[] = []
    let watching = true
    const watcher = (async () => {
      while (watching) {
        if (existsSync(path)) seen.push(`${(statSync(path).mode & 0o777).toString(8)} ${await get(path)}`)
        await delay(0)
      }
    })()
    await listen(hello(), path)
    await delay(20)
    watching = false
    await watcher
    expect(new Set(seen)).toEqual(new Set(['660 hello']))
    expect(readdirSync(dir)).toEqual(['tsnet.sock'])
  })

  it('gives the socket its mode and its group, whatever the umask', async () => {
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find(row => row.startsWith('daemon:'))
    const umask = process.umask(0o077)
    try {
      await listen(hello(), join(dir, 'g.sock'), { mode: 0o666, group: { name: 'daemon', required: true } })
    } finally {
      process.umask(umask)
    }
    const got = statSync(join(dir, 'g.sock'))
    expect([got.mode & 0o777, String(got.gid)]).toEqual([0o666, line?.split(':')[2]])
  })

  it('keeps the group of the process where the host has no such group', async () => {
    await listen(hello(), join(dir, 'g.sock'), { mode: 0o660, group: { name: 'no-such-group', required: false } })
    expect(statSync(join(dir, 'g.sock')).gid).toBe(process.getgid?.())
  })

  it('refuses a group that was asked for and is not there, and leaves nothing behind', async () => {
    const got = await failure(
      listen(hello(), join(dir, 'g.sock'), { mode: 0o660, group: { name: 'no-such-group', required: true } }),
    )
    expect(got).toEqual({
      kind: 'InvalidParameter',
      message: `listen on ${join(dir, 'g.sock')}: this host has no group no-such-group`,
    })
    expect(readdirSync(dir)).toEqual([])
  })

  it('makes a directory that only its owner and, where that is wanted, the group may enter, whatever the umask', async () => {
    const group = { name: 'daemon', required: true }
    await listen(hello(), join(dir, 'own/g.sock'), { mode: 0o660, group })
    await listen(hello(), join(dir, 'shared/g.sock'), { mode: 0o660, group, groupEnters: true })
    const [own, shared] = ['own', 'shared'].map(name => statSync(join(dir, name)))
    expect([own!.mode & 0o777, shared!.mode & 0o777]).toEqual([0o700, 0o750])
    expect(shared!.gid).not.toBe(own!.gid)
  })

  it('refuses a directory in which everybody could put another socket in its place', async () => {
    chmodSync(dir, 0o777)
    expect((await failure(listen(hello(), join(dir, 'g.sock')))).kind).toBe('Forbidden')
    expect(readdirSync(dir)).toEqual([])
  })

  it('does not follow a link that stands at its path', async () => {
    const victim = join(dir, 'victim')
    writeFileSync(victim, 'mine')
    symlinkSync(victim, join(dir, 'l.sock'))
    expect((await failure(listen(hello(), join(dir, 'l.sock')))).kind).toBe('Conflict')
    expect(readFileSync(victim, 'utf8')).toBe('mine')
  })

  it('replaces the socket of a daemon that was killed', async () => {
    const path = join(dir, 'stale.sock')
    await leaveDeadSocket(path)
    await listen(hello(), path)
    expect(await get(path)).toBe('hello')
  })

  it('refuses the path of a live daemon and leaves that daemon in place', async () => {
    const path = join(dir, 'live.sock')
    await listen(hello(), path)
    const got = await failure(listen(hello(), path))
    expect(got).toEqual({
      kind: 'Conflict',
      message: `listen on ${path}: another daemon answers there: stop it first, or choose another path`,
    })
    expect(await get(path)).toBe('hello')
    expect(readdirSync(dir)).toEqual(['live.sock'])
  })

  it('refuses to replace a file that is not a socket', async () => {
    const path = join(dir, 'notes.txt')
    writeFileSync(path, 'mine')
    expect((await failure(listen(hello(), path))).kind).toBe('Conflict')
    expect(readFileSync(path, 'utf8')).toBe('mine')
  })

  it('takes a path of 107 bytes and refuses one of 108, naming the limit', async () => {
    const fits = join(dir, 'x'.repeat(107 - dir.length - 1))
    await listen(hello(), fits)
    expect(await get(fits)).toBe('hello')
    const got = await failure(listen(hello(), `${fits}x`))
    expect(got).toEqual({
      kind: 'InvalidParameter',
      message: `socket path ${fits}x has 108 bytes: at most 107 fit`,
    })
  })

  it('says why a directory cannot be used', async () => {
    writeFileSync(join(dir, 'file'), '')
    const got = await failure(listen(hello(), join(dir, 'file/t.sock')))
    expect(got.message).toContain(`listen on ${join(dir, 'file/t.sock')}: `)
  })
})

describe('closing', () => {
  it('removes its socket, and again is fine', async () => {
    const path = join(dir, 'c.sock')
    const server = await listen(hello(), path)
    await server.close()
    await server.close()
    expect(readdirSync(dir)).toEqual([])
  })

  it('leaves alone a socket that another daemon has put in its place', async () => {
    const path = join(dir, 'c.sock')
    const server = await listen(hello(), path)
    rmSync(path)
    await listen(
      createServer((_, response) => response.end('other')),
      path,
    )
    await server.close()
    expect(await get(path)).toBe('other')
  })

  it('lets a request in flight finish and then drops its connection, though the client keeps it alive', async () => {
    const path = join(dir, 'c.sock')
    const slow = createServer((_, response) => void setTimeout(() => response.end('late'), 150))
    const server = await listen(slow, path)
    const client = connect(path)
    let text = ''
    client.on('data', chunk => {
      text += chunk
    })
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(slow, 'request')
    const start = performance.now()
    await server.close()
    expect(performance.now() - start).toBeLessThan(4_500)
    if (!client.closed) await once(client, 'close')
    expect(text).toMatch(/late/)
  })

  it('drops connections that ask nothing at once, also those that never asked', async () => {
    const path = join(dir, 'c.sock')
    const http = hello()
    http.keepAliveTimeout = 60_000
    const server = await listen(http, path)
    const silent = connect(path)
    const idle = connect(path)
    idle.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(idle, 'data')
    const gone = Promise.all([once(silent.resume(), 'close'), once(idle.resume(), 'close')])
    const start = performance.now()
    await server.close()
    await gone
    expect(performance.now() - start).toBeLessThan(4_500)
  })

  it('cuts a request that does not finish in 5 seconds', { timeout: 10_000 }, async () => {
    const path = join(dir, 'c.sock')
    const never = createServer(() => {})
    const server = await listen(never, path)
    const answer = failure(get(path))
    await once(never, 'request')
    const start = performance.now()
    await server.close()
    const took = performance.now() - start
    expect(took).toBeGreaterThan(4_500)
    expect(took).toBeLessThan(9_000)
    expect((await answer).message).toMatch(/hang up|ECONNRESET/)
  })
})

it('takes a daemon that is stopped, its queue of connections full, for a live one', async () => {
  const path = join(dir, 'busy.sock')
  const script = `require('net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', script])
  // a socket that is bound and not yet listened on refuses
  await once(child.stdout, 'data')
  child.kill('SIGSTOP')
  const queued = Array.from({ length: 4 }, () => connect(path).on('error', () => {}))
  try {
    await delay(50)
    expect((await failure(listen(hello(), path))).kind).toBe('Conflict')
  } finally {
    for (const socket of queued) socket.destroy()
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
})
