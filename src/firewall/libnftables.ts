import koffi from 'koffi'
import { NftError, type Runner } from './nft.js'

/** NFT_CTX_OUTPUT_JSON of <nftables/libnftables.h>: lists come as JSON. */
const outputJson = 1 << 4

/**
 * libnftables in this process (man 3 libnftables). The context's netlink socket belongs to the network namespace in which the runner
 * is made. A call is synchronous and short, so it runs on the main thread. Be aware: a JSON command that is well formed but wrong can
 * crash the process in 1.0.6, so commands are given in nft's own syntax only.
 * Throws when the library or a function of it is missing.
 */
export function libnftablesRunner(soname = 'libnftables.so.1'): Runner {
  const library = koffi.load(soname)
  const nft_ctx_new = library.func('void *nft_ctx_new(uint32_t flags)')
  const nft_ctx_free = library.func('void nft_ctx_free(void *ctx)')
  const nft_ctx_output_set_flags = library.func('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)')
  const nft_ctx_buffer_output = library.func('int nft_ctx_buffer_output(void *ctx)')
  const nft_ctx_buffer_error = library.func('int nft_ctx_buffer_error(void *ctx)')
  const nft_ctx_get_output_buffer = library.func('const char *nft_ctx_get_output_buffer(void *ctx)')
  const nft_ctx_get_error_buffer = library.func('const char *nft_ctx_get_error_buffer(void *ctx)')
  const nft_run_cmd_from_buffer = library.func('int nft_run_cmd_from_buffer(void *ctx, const char *commands)')

  let context: unknown = nft_ctx_new(0)
  if (context === null) throw new NftError('nft_ctx_new failed')
  nft_ctx_output_set_flags(context, outputJson)
  nft_ctx_buffer_output(context)
  nft_ctx_buffer_error(context)

  return {
    name: 'libnftables',
    async run(commands) {
      if (context === undefined) throw new NftError('the runner is closed')
      const failed = nft_run_cmd_from_buffer(context, commands) !== 0
      // Reading a buffer is also what empties it, so both are read whatever happened.
      const output = String(nft_ctx_get_output_buffer(context) ?? '')
      const errors = String(nft_ctx_get_error_buffer(context) ?? '')
      if (failed) throw new NftError(errors.trim() || 'nft gave no reason')
      return output
    },
    close() {
      if (context !== undefined) nft_ctx_free(context)
      context = undefined
    },
  }
}
