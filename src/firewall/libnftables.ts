import { closeSync, openSync } from 'node:fs'
import koffi from 'koffi'
import { unavailable } from '../errors.js'
import { inNetns, type Netns } from '../netlink/netns.js'
import { NftError, type Runner } from './nft.js'

/** NFT_CTX_OUTPUT_* of <nftables/libnftables.h>: lists come as JSON, or with the handle after every rule. */
const outputJson = 1 << 4
const outputHandle = 1 << 3

/**
 * libnftables in this process (man 3 libnftables). The context's netlink socket belongs to the network namespace in which the runner
 * is made. A call is synchronous and short, so it runs on the main thread. Be aware: a JSON command that is well formed but wrong can
 * crash the process in 1.0.6, so commands are given in nft's own syntax only.
 * Throws when the library or a function of it is missing.
 */
export function libnftablesRunner(soname = standardName): Runner {
  const context = withLowDescriptor(() => openContext(soname))
  return { name: 'libnftables', run: async commands => context.run(commands), close: () => context.close() }
}

/**
 * In a namespace, with lists as people read them and a handle after each rule: `nft -a`. Tables with `flags owner` are gone when it
 * is closed, or this process ends. Throws like the runner.
 */
export function openNftInside(netns: Netns): Context {
  const context = withLowDescriptor(() => inNetns(netns, () => openContext(standardName, outputHandle)))
  // the library opens its socket anew where a list was interrupted
  return {
    run: commands => inNetns(netns, () => context.run(commands)),
    close() {
      context.close()
      renewReserve()
    },
  }
}

const standardName = 'libnftables.so.1'

export interface Context {
  run(commands: string): string
  close(): void
}

const libraries = new Map<string, ReturnType<typeof load>>()

function load(soname: string) {
  const library = koffi.load(soname)
  return {
    nft_ctx_new: library.func('void *nft_ctx_new(uint32_t flags)'),
    nft_ctx_free: library.func('void nft_ctx_free(void *ctx)'),
    nft_ctx_output_set_flags: library.func('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)'),
    nft_ctx_buffer_output: library.func('int nft_ctx_buffer_output(void *ctx)'),
    nft_ctx_buffer_error: library.func('int nft_ctx_buffer_error(void *ctx)'),
    nft_ctx_get_output_buffer: library.func('const char *nft_ctx_get_output_buffer(void *ctx)'),
    nft_ctx_get_error_buffer: library.func('const char *nft_ctx_get_error_buffer(void *ctx)'),
    nft_run_cmd_from_buffer: library.func('int nft_run_cmd_from_buffer(void *ctx, const char *commands)'),
  }
}

/**
 * libnftables waits by select(2) for the kernel's answers, and a descriptor from 1024 on (FD_SETSIZE) ends the process there.
 * Sandboxes and published ports have sockets, thousands of them; so these low numbers are kept, and lent to contexts.
 */
const selectable = 1024
const reserve = (): number[] => Array.from({ length: 8 }, () => openSync('/dev/null', 'r'))
let reserved = reserve()

function withLowDescriptor<T>(work: () => T): T {
  // one for the library, one for the way back from another namespace
  if (reserved.filter(fd => fd < selectable).length < 2)
    throw unavailable(`no descriptor below ${selectable} is left for libnftables`)
  for (const fd of reserved) closeSync(fd)
  try {
    return work()
  } finally {
    reserved = reserve()
  }
}

/** A number that was lent for longer is free again: nobody else may have it. */
function renewReserve(): void {
  for (const fd of reserved) closeSync(fd)
  reserved = reserve()
}

function openContext(soname: string, output = outputJson): Context {
  const nft = libraries.get(soname) ?? load(soname)
  libraries.set(soname, nft)
  let context: unknown = nft.nft_ctx_new(0)
  if (context === null) throw new NftError('nft_ctx_new failed')
  nft.nft_ctx_output_set_flags(context, output)
  nft.nft_ctx_buffer_output(context)
  nft.nft_ctx_buffer_error(context)
  return {
    run(commands) {
      if (context === undefined) throw new NftError('the runner is closed')
      const failed = nft.nft_run_cmd_from_buffer(context, commands) !== 0
      // Reading a buffer is also what empties it, so both are read whatever happened.
      const output = String(nft.nft_ctx_get_output_buffer(context) ?? '')
      const errors = String(nft.nft_ctx_get_error_buffer(context) ?? '')
      if (failed) throw new NftError(errors.trim() || 'nft gave no reason')
      return output
    },
    close() {
      if (context !== undefined) nft.nft_ctx_free(context)
      context = undefined
    },
  }
}
