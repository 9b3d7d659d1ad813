import { once } from 'node:events'
import { chmod, chown, lstat, mkdtemp, readFile, rename, rm, rmdir } from 'node:fs/promises'
import type { Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { ensureDirectory } from '../directories.js'
import { conflict, invalid, within } from '../errors.js'

/** `sun_path` of unix(7) holds 108 bytes, and Go's clients keep the last one for the NUL. */
const maxPathBytes = 107
/** What a request in flight gets to finish before its connection is cut. */
const drainMs = 5_000

export interface UnixServerOptions {
  /** permission bits of the socket, for example 0o660 */
  mode: number
  /** group that owns the socket; ignored where the host has no such group */
  group?: string
}

export interface UnixServer {
  /** Remove the socket if it is still ours, let requests in flight finish (5 s at most), drop all connections. Repeatable. */
  close(): Promise<void>
}

/**
 * Make an HTTP server listen at a path that appears only once it answers: dockerd talks to a plugin as soon as it sees
 * its socket, and never asks for capabilities again if the first try failed (moby pkg/plugins/plugins.go).
 * A missing directory is made; the socket of a dead daemon is replaced.
 * Throws Conflict if a live daemon answers there or a file that is no socket is in the way, InvalidParameter if the path is too long.
 */
export async function listenUnix(server: Server, path: string, options: UnixServerOptions): Promise<UnixServer> {
  if (Buffer.byteLength(path) > maxPathBytes)
    throw invalid(`socket path ${path} has ${Buffer.byteLength(path)} bytes: at most ${maxPathBytes} fit`)
  try {
    ensureDirectory(dirname(path), 0o755)
    await refuseOccupied(path)
    const drain = trackConnections(server)
    const inode = await appear(server, path, options)
    let closed: Promise<void> | undefined
    return { close: () => (closed ??= removeIfOurs(path, inode).then(drain)) }
  } catch (error) {
    throw within(`listen on ${path}`, error)
  }
}

/** Listen in a directory that nobody else can enter, set the owner and the mode, and only then move the socket into place. */
async function appear(server: Server, path: string, options: UnixServerOptions): Promise<bigint> {
  // With its `/s` this is nine bytes long: shorter than the names of our sockets, so that it fits where they do.
  const hidden = await mkdtemp(`${dirname(path)}/.tsnet-`)
  try {
    const socket = join(hidden, 's')
    server.listen(socket)
    await once(server, 'listening')
    const gid = options.group === undefined ? undefined : await groupId(options.group)
    if (gid !== undefined) await chown(socket, process.getuid!(), gid)
    await chmod(socket, options.mode)
    const { ino } = await lstat(socket, { bigint: true })
    await rename(socket, path)
    return ino
  } catch (error) {
    server.close()
    throw error
  } finally {
    await rm(join(hidden, 's'), { force: true })
    await rmdir(hidden)
  }
}

async function refuseOccupied(path: string): Promise<void> {
  const have = await lstat(path).catch(absent)
  if (have === undefined) return
  if (!have.isSocket()) throw conflict('a file that is not a socket is in the way')
  if (await answers(path)) throw conflict('another daemon answers there: stop it first, or choose another path')
}

/** ECONNREFUSED is the mark of a socket whose daemon has died; any other failure tells us nothing, so it is thrown. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EAGAIN') return true // its queue of connections is full
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return false
    throw error
  } finally {
    socket.destroy()
  }
}

async function removeIfOurs(path: string, inode: bigint): Promise<void> {
  const have = await lstat(path, { bigint: true }).catch(absent)
  if (have?.ino === inode) await rm(path, { force: true })
}

/**
 * Returns how to close the server: at once for a connection on which nothing is asked, else when its answer is out.
 * (Node's closeIdleConnections() spares a connection that never sent a request, and dockerd keeps such ones.)
 */
function trackConnections(server: Server): () => Promise<void> {
  const inFlight = new Map<Socket, number>()
  let closing = false
  server.on('connection', socket => {
    inFlight.set(socket, 0)
    socket.once('close', () => inFlight.delete(socket))
  })
  server.prependListener('request', ({ socket }, response) => {
    inFlight.set(socket, (inFlight.get(socket) ?? 0) + 1)
    response.once('close', () => {
      const left = (inFlight.get(socket) ?? 1) - 1
      if (inFlight.has(socket)) inFlight.set(socket, left)
      if (closing && left === 0) socket.destroySoon()
    })
  })
  return async () => {
    closing = true
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    for (const [socket, count] of inFlight) if (count === 0) socket.destroy()
    const cut = setTimeout(() => server.closeAllConnections(), drainMs)
    await closed
    clearTimeout(cut)
  }
}

/** group(5), read by hand because Node has no getgrnam(3). */
async function groupId(name: string): Promise<number | undefined> {
  const lines = (await readFile('/etc/group', 'utf8')).split('\n').map(line => line.split(':'))
  const gid = lines.find(([group]) => group === name)?.[2]
  return gid === undefined ? undefined : Number(gid)
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
