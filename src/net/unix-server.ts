import { once } from 'node:events'
import { chmod, chown, lstat, mkdtemp, readFile, rename, rm, rmdir } from 'node:fs/promises'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { checkTrusted, ensureDirectory } from '../directories.js'
import { conflict, forbidden, invalid, within } from '../errors.js'
import { type ConnectionOptions, keepConnections } from './connections.js'

/** `sun_path` of unix(7) holds 108 bytes, and Go's clients keep the last one for the NUL. */
const maxPathBytes = 107
export interface UnixServerOptions {
  /** permission bits of the socket, for example 0o660 */
  mode: number
  /** group that owns the socket */
  group?: Group
  /** the group may also enter the directory, if that is made here; else nobody but the owner may */
  groupEnters?: boolean
  /** the descriptor of a socket that listens at the path already, and is its maker's to remove */
  inherited?: number
  connections?: ConnectionOptions
}

/** `required`: that the host has no such group is an error; else the socket is then its owner's alone. */
export interface Group {
  name: string
  required: boolean
}

const usualConnections: ConnectionOptions = { max: 512, refusal: (_status, message) => ({ message }) }

export interface UnixServer {
  /** Remove the socket if it is still ours, let requests in flight finish (5 s at most), drop all connections. Repeatable. */
  close(): Promise<void>
}

/**
 * Make an HTTP server listen at a path that appears only once it answers: dockerd talks to a plugin as soon as it sees
 * its socket, and never asks for capabilities again if the first try failed (moby pkg/plugins/plugins.go).
 * A missing directory is made; the socket of a dead daemon is replaced.
 * Throws Conflict if a live daemon answers there or a file that is no socket is in the way, InvalidParameter if the path
 * is too long or the group is missing, Forbidden if somebody else could put another socket in its place.
 */
export async function listenUnix(server: Server, path: string, options: UnixServerOptions): Promise<UnixServer> {
  if (Buffer.byteLength(path) > maxPathBytes)
    throw invalid(`socket path ${path} has ${Buffer.byteLength(path)} bytes: at most ${maxPathBytes} fit`)
  try {
    const drain = keepConnections(server, options.connections ?? usualConnections)
    const remove =
      options.inherited === undefined ? await place(server, path, options) : await take(server, options.inherited)
    let closed: Promise<void> | undefined
    return { close: () => (closed ??= remove().then(drain)) }
  } catch (error) {
    throw within(`listen on ${path}`, error)
  }
}

async function take(server: Server, fd: number): Promise<() => Promise<void>> {
  server.listen({ fd })
  await once(server, 'listening')
  return async () => {}
}

async function place(server: Server, path: string, options: UnixServerOptions): Promise<() => Promise<void>> {
  const { mode, group, groupEnters = false } = options
  const gid = group === undefined ? undefined : await groupId(group)
  await ensurePlace(dirname(path), groupEnters ? gid : undefined)
  await refuseOccupied(path)
  const inode = await appear(
    server,
    path,
    mode,
    group === undefined || gid === undefined ? undefined : { ...group, gid },
  )
  return () => removeIfOurs(path, inode)
}

/** The directory of a socket: nobody but its owner may change what is in there, and the group may enter. */
async function ensurePlace(directory: string, gid: number | undefined): Promise<void> {
  const missing = (await lstat(directory).catch(absent)) === undefined
  // what the group has to pass to get there
  if (gid !== undefined) ensureDirectory(dirname(directory), 0o755)
  ensureDirectory(directory, 0o700)
  checkTrusted(directory)
  if (!missing || gid === undefined) return
  if (await gave(directory, gid)) await chmod(directory, 0o750)
}

/** False: we may not, not having CAP_CHOWN and not being in the group. */
async function gave(path: string, gid: number): Promise<boolean> {
  try {
    await chown(path, process.getuid!(), gid)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPERM') return false
    throw error
  }
}

/** Listen in a directory that nobody else can enter, set the owner and the mode, and only then move the socket into place. */
async function appear(
  server: Server,
  path: string,
  mode: number,
  group: (Group & { gid: number }) | undefined,
): Promise<bigint> {
  // With its `/s` this is nine bytes long: shorter than the names of our sockets, so that it fits where they do.
  const hidden = await mkdtemp(`${dirname(path)}/.tsnet-`)
  try {
    const socket = join(hidden, 's')
    server.listen(socket)
    await once(server, 'listening')
    if (group !== undefined && !(await gave(socket, group.gid)) && group.required)
      throw forbidden(`the socket cannot be given to group ${group.name}: that takes CAP_CHOWN, or being in the group`)
    await chmod(socket, mode)
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

/** group(5), read by hand because Node has no getgrnam(3). */
async function groupId({ name, required }: Group): Promise<number | undefined> {
  const lines = (await readFile('/etc/group', 'utf8')).split('\n').map(line => line.split(':'))
  const gid = lines.find(([group]) => group === name)?.[2]
  if (gid === undefined && required) throw invalid(`this host has no group ${name}`)
  return gid === undefined ? undefined : Number(gid)
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
