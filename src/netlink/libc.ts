import koffi from 'koffi'

// The libc calls that Node has no function for. A failing one throws ErrnoError; a synchronous one acts on the calling thread.

/** Second names of numbers: the first are EAGAIN, EOPNOTSUPP and EDEADLK. */
const synonyms = ['EWOULDBLOCK', 'ENOTSUP', 'EDEADLOCK']
const names = new Map(
  Object.entries(koffi.os.errno)
    .filter(([name]) => !synonyms.includes(name))
    .map(([name, errno]) => [errno, name]),
)

/** `EEXIST` for 17; `E512` for a number without a name. */
export const errnoName = (errno: number): string => names.get(errno) ?? `E${errno}`

const libc = koffi.load(null)

/** `File exists` for 17. */
export const strerror = libc.func('const char *strerror(int errnum)') as (errno: number) => string

export const emfile = koffi.os.errno.EMFILE ?? 24
export const eagain = koffi.os.errno.EAGAIN ?? 11
export const enobufs = koffi.os.errno.ENOBUFS ?? 105

/** A libc call that failed. */
export class ErrnoError extends Error {
  override readonly name = 'ErrnoError'
  /** `EEXIST` */
  readonly code: string
  constructor(
    readonly call: string,
    readonly errno: number,
  ) {
    super(`${call}: ${strerror(errno)}`)
    this.code = errnoName(errno)
  }
}

export const hasCode = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code))

type Call = (...args: never[]) => number

function declare<F extends Call>(definition: string): F {
  const native = libc.func(definition)
  const call = /(\w+)\(/.exec(definition)?.[1] ?? definition
  const checked = (...args: unknown[]): number => {
    const result: number = native(...args)
    if (result < 0) throw new ErrnoError(call, koffi.errno())
    return result
  }
  return checked as unknown as F
}

/** The same on a thread of libuv's pool: for calls that block. The thread is in the namespace the process started in. */
function declareAsync<A extends unknown[]>(definition: string): (...args: A) => Promise<number> {
  const native = libc.func(definition)
  const call = /(\w+)\(/.exec(definition)?.[1] ?? definition
  return (...args) =>
    new Promise((resolve, reject) => {
      native.async(...args, (error: Error | null, result: number) => {
        // koffi restores the pool thread's errno for the time of this callback.
        if (error) reject(error)
        else if (result < 0) reject(new ErrnoError(call, koffi.errno()))
        else resolve(result)
      })
    })
}

const sendDefinition = 'long send(int fd, const void *bytes, size_t length, int flags)'
/** sys/socket.h */
export const msgDontWait = 0x40
const recvDefinition = 'long recv(int fd, void *bytes, size_t length, int flags)'

export const socket = declare<(domain: number, type: number, protocol: number) => number>(
  'int socket(int domain, int type, int protocol)',
)
export const bind = declare<(fd: number, address: Buffer, length: number) => number>(
  'int bind(int fd, const void *address, uint32_t length)',
)
export const connect = declare<(fd: number, address: Buffer, length: number) => number>(
  'int connect(int fd, const void *address, uint32_t length)',
)
export const listen = declare<(fd: number, backlog: number) => number>('int listen(int fd, int backlog)')
export const setsockopt = declare<(fd: number, level: number, name: number, value: number[], length: number) => number>(
  'int setsockopt(int fd, int level, int name, const int *value, uint32_t length)',
)
/** The same for values that are no numbers. */
export const setsockoptBytes = declare<
  (fd: number, level: number, name: number, value: Buffer, length: number) => number
>('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)')
/** `value` is filled, `length[0]` says how far. */
export const getsockopt = declare<(fd: number, level: number, name: number, value: Buffer, length: number[]) => number>(
  'int getsockopt(int fd, int level, int name, void *value, _Inout_ uint32_t *length)',
)
/** For system calls that glibc has no function for, or has had none for long. Arguments are named by their types before each. */
const syscall = declare<(number: number, ...typed: (string | number | Buffer | null)[]) => number>(
  'long syscall(long number, ...)',
)
/** The kernel's table of system calls is another on every architecture, but for those from 424 on. */
const bpfNumbers: Record<string, number> = { x64: 321, arm64: 280, riscv64: 280, loong64: 280, ppc64: 361 }
/** man 2 bpf; throws ErrnoError also where we do not know its number. */
export function bpf(command: number, attributes: Buffer): number {
  const number = bpfNumbers[process.arch]
  if (number === undefined) throw new ErrnoError('bpf', koffi.os.errno.ENOSYS ?? 38)
  return syscall(number, 'int', command, 'void *', attributes, 'uint32_t', attributes.length)
}
/** man 2 fsopen: 430 to 432 everywhere */
export const fsopen = (type: string, flags: number): number => syscall(430, 'str', type, 'uint32_t', flags)
export const fsconfig = (fd: number, command: number): number =>
  syscall(431, 'int', fd, 'uint32_t', command, 'void *', null, 'void *', null, 'int', 0)
export const fsmount = (fd: number, flags: number, attributes: number): number =>
  syscall(432, 'int', fd, 'uint32_t', flags, 'uint32_t', attributes)
/** Where bytes are in memory, for structs that point to others; the caller keeps them alive. */
export const addressOfBytes = (bytes: Buffer): bigint => koffi.address(bytes)
export const send = declare<(fd: number, bytes: Buffer, length: number, flags: number) => number>(sendDefinition)
export const sendAsync = declareAsync<[fd: number, bytes: Buffer, length: number, flags: number]>(sendDefinition)
export const recv = declare<(fd: number, bytes: Buffer, length: number, flags: number) => number>(recvDefinition)
export const recvAsync = declareAsync<[fd: number, bytes: Buffer, length: number, flags: number]>(recvDefinition)
const nativeRecv = libc.func(recvDefinition)
/** The same without waiting; undefined: nothing is there. Every queue ends so, and an exception costs more than the call. */
export function recvNow(fd: number, bytes: Buffer, length: number, flags: number): number | undefined {
  const size: number = nativeRecv(fd, bytes, length, flags | msgDontWait)
  if (size >= 0) return size
  const errno = koffi.errno()
  if (errno === eagain) return undefined
  throw new ErrnoError('recv', errno)
}
/** A connection of a listening socket; its peer's address is asked elsewhere. */
export const accept = declare<(fd: number, address: null, length: null, flags: number) => number>(
  'int accept4(int fd, void *address, void *length, int flags)',
)
/** `address` is filled, `length[0]` says how far. */
export const recvfrom = declare<
  (fd: number, bytes: Buffer, length: number, flags: number, address: Buffer, addressLength: number[]) => number
>('long recvfrom(int fd, void *bytes, size_t length, int flags, void *address, _Inout_ uint32_t *addressLength)')
export const sendto = declare<
  (fd: number, bytes: Buffer, length: number, flags: number, address: Buffer, addressLength: number) => number
>('long sendto(int fd, const void *bytes, size_t length, int flags, const void *address, uint32_t addressLength)')
const closeDefinition = 'int close(int fd)'
export const close = declare<(fd: number) => number>(closeDefinition)
export const closeAsync = declareAsync<[fd: number]>(closeDefinition)
const variadicFcntl = declare<(fd: number, command: number, type: 'int', value: number) => number>(
  'int fcntl(int fd, int command, ...)',
)
export const fcntl = (fd: number, command: number, value: number): number => variadicFcntl(fd, command, 'int', value)
/** `limit` is soft and hard, for example those of RLIMIT_NOFILE (7 in asm-generic/resource.h). */
export const setrlimit = declare<(resource: number, limit: [soft: number, hard: number]) => number>(
  'int setrlimit(int resource, const uint64_t *limit)',
)
/** LOCK_EX and LOCK_NB, sys/file.h */
export const lockExclusive = 2
export const lockNonBlocking = 4
export const flock = declare<(fd: number, operation: number) => number>('int flock(int fd, int operation)')
/** Requests without an argument only. */
export const ioctl = declare<(fd: number, request: number) => number>('int ioctl(int fd, unsigned long request, ...)')
export const setns = declare<(fd: number, type: number) => number>('int setns(int fd, int type)')
export const sethostname = declare<(name: string, length: number) => number>(
  'int sethostname(const char *name, size_t length)',
)
export const unshare = declare<(flags: number) => number>('int unshare(int flags)')
export const mount = declare<
  (source: string | null, target: string, type: string | null, flags: number, data: null) => number
>('int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)')
export const umount2 = declare<(target: string, flags: number) => number>('int umount2(const char *target, int flags)')

/** Replace this process. Both lists end with null. Returns only by throwing. */
export const execve = declare<(path: string, args: (string | null)[], environment: (string | null)[]) => number>(
  'int execve(const char *path, const char **args, const char **environment)',
)
const nativeSignal = libc.func('void *signal(int number, void *handler)')
/** Give a signal its default action again: Node ignores SIGPIPE, and an ignored signal stays ignored over execve. */
export const defaultSignal = (number: number): void => {
  nativeSignal(number, null)
}

export const epollCreate = declare<(flags: number) => number>('int epoll_create1(int flags)')
export const epollCtl = declare<(epoll: number, operation: number, fd: number, event: Buffer) => number>(
  'int epoll_ctl(int epoll, int operation, int fd, void *event)',
)
export const epollWait = declare<(epoll: number, events: Buffer, max: number, timeoutMs: number) => number>(
  'int epoll_wait(int epoll, void *events, int max, int timeoutMs)',
)

/**
 * Call `ready` from the event loop whenever `fd` has something to read or an error to tell; `gatherMs` later, for those who would
 * rather have much at a time. Nothing blocks, no pool thread is held, and the watch does not keep the process alive.
 */
export function watchReadable(fd: number, ready: () => void, gatherMs = 0): { close(): void } {
  let open = true
  const wait = { readable: true }
  // koffi calls back outside of Node's ticks, where promises would not go on, and libuv stops the watch at an error.
  const soon = () => {
    handle.stop()
    if (gatherMs === 0) setImmediate(turn)
    else setTimeout(turn, gatherMs).unref()
  }
  const turn = () => {
    if (!open) return
    try {
      ready()
    } finally {
      if (open) handle.start(wait, soon)
    }
  }
  const handle = koffi.node.poll(fd, wait, soon)
  handle.unref()
  return {
    close() {
      if (open) handle.close()
      open = false
    },
  }
}
