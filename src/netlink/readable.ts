import { encode, pad, struct, u32 } from './codec.js'
import { epollCreate, epollCtl, epollWait, watchReadable } from './libc.js'

// Thousands of sockets of which hardly any ever has something: the event loop watches one descriptor for all of them (man 7 epoll).

/** struct epoll_event of linux/eventpoll.h, with the descriptor as its data; packed on x86-64 alone */
const epollEvent = struct([
  ['events', u32],
  ['_align', pad(process.arch === 'x64' ? 0 : 4)],
  ['fd', u32],
  ['_rest', pad(4)],
])
const epollIn = 1
const epollCtlAdd = 1
/** EPOLL_CLOEXEC */
const closeOnExec = 0o2000000
const eventsAtOnce = 64

const watched = new Map<number, () => void>()
const events = Buffer.alloc(eventsAtOnce * epollEvent.size)
let epoll: number | undefined

/**
 * Call `ready` from the event loop as long as there is something to read. This does not keep the process alive. Whoever
 * closes the descriptor says so before with `unwatch`: closing it is what takes it from the kernel's list.
 */
export function watch(fd: number, ready: () => void): void {
  epoll ??= open()
  epollCtl(epoll, epollCtlAdd, fd, encode(epollEvent, { events: epollIn, fd }))
  watched.set(fd, ready)
}

/** Not watched is fine. */
export const unwatch = (fd: number): void => void watched.delete(fd)

/** As long as the process lives. */
function open(): number {
  const fd = epollCreate(closeOnExec)
  watchReadable(fd, () => {
    const count = epollWait(fd, events, eventsAtOnce, 0)
    const ready = Array.from({ length: count }, (_, i) => epollEvent.read(events, i * epollEvent.size).fd)
    for (const one of ready) watched.get(one)?.()
  })
  return fd
}
