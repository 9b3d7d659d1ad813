import { readFileSync, writeFileSync } from 'node:fs'
import { forbidden, invalid, messageOf, notFound } from '../errors.js'
import { close, hasCode } from './libc.js'
import { openOwnProc } from './mounts.js'
import { inNetns, type Netns } from './netns.js'

/**
 * The file of a setting. As sysctl(8) has it, '/' within a name stands for a dot: `net.ipv4.conf.eth0/100.forwarding`.
 */
function pathOf(proc: string, name: string): string {
  const parts = name.split('.').map(part => part.replaceAll('/', '.'))
  if (parts.some(part => !/^[^\s\0]+$/.test(part) || part === '.' || part === '..'))
    throw invalid(`sysctl "${name}" is not words joined by dots`)
  return `${proc}/sys/${parts.join('/')}`
}

/** Only what is not waited for: a namespace is left when `work` returns. */
type Done<T> = T & (T extends PromiseLike<unknown> ? never : unknown)

const looksAtOnce = 64
let own = { path: '/proc', fd: -1, left: 0 }

/**
 * Every namespace has files of the same names, and the kernel goes through those that it has found in this /proc before to find one more
 * (proc_sys_compare): among a thousand that was 10 % of an attachment. So each /proc is used for some only; where there can be none
 * of our own, the usual one does, slowly.
 */
function procOfNamespaces(): string {
  if (own.left === 0) {
    if (own.fd >= 0) close(own.fd)
    own = { path: '/proc', fd: -1, left: looksAtOnce }
    try {
      own.fd = openOwnProc()
      own.path = `/proc/self/fd/${own.fd}`
    } catch (error) {
      if (!hasCode(error, 'EPERM', 'ENOSYS', 'EMFILE', 'ENFILE')) throw error
    }
  }
  own.left--
  return own.path
}

/** /proc/sys/net shows the namespace of the thread that opens a file in it. */
const at = <T>(netns: Netns | undefined, name: string, work: (path: string) => Done<T>): T =>
  netns ? inNetns<T>(netns, () => here(procOfNamespaces(), name, work)) : here('/proc', name, work)

function here<T>(proc: string, name: string, work: (path: string) => Done<T>): Done<T> {
  const path = pathOf(proc, name)
  try {
    return work(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) throw notFound(`this kernel has no sysctl ${name} here`, { cause: error })
    if (hasCode(error, 'EACCES', 'EPERM', 'EROFS'))
      throw forbidden(`sysctl ${name} cannot be written: ${messageOf(error)}`, { cause: error })
    if (hasCode(error, 'EINVAL', 'ERANGE')) throw invalid(`sysctl ${name} does not take that value`, { cause: error })
    throw error
  }
}

/** Not to be created if it is missing, which the kernel would lock the folder for. */
const onlyWrite = { flag: 'r+' } as const

/** `sysctl -n NAME`, in a namespace or in this process's own. Throws NotFound. */
export const readSysctl = (netns: Netns | undefined, name: string): string =>
  at<string>(netns, name, path => readFileSync(path, 'utf8').trim())

/** `sysctl -w NAME=VALUE` where it is not so yet; says whether it changed. Throws NotFound, Forbidden, InvalidParameter. */
export const writeSysctl = (netns: Netns | undefined, name: string, value: string | number): boolean =>
  at<boolean>(netns, name, path => {
    if (readFileSync(path, 'utf8').trim() === String(value)) return false
    writeFileSync(path, String(value), onlyWrite)
    return true
  })

/** `sysctl -w KEY=VALUE ...` in a namespace, whatever they are now. Throws as writeSysctl does. */
export const writeSysctls = (netns: Netns, settings: readonly { key: string; value: string }[]): void =>
  inNetns(netns, () => {
    for (const { key, value } of settings)
      here<void>(procOfNamespaces(), key, path => writeFileSync(path, value, onlyWrite))
  })
