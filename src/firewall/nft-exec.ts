import { NftError, type Runner } from './nft.js'
import { ProgramError, runProgram } from './program.js'

/** The `nft` program, a process for each transaction: the twin of the library for hosts without libnftables.so.1, at many times the cost. */
export function nftExecRunner(program = 'nft'): Runner {
  return {
    name: 'nft',
    async run(commands) {
      try {
        return await runProgram(program, ['-j', '-f', '-'], commands)
      } catch (error) {
        throw error instanceof ProgramError ? new NftError(error.details) : error
      }
    },
    close() {},
  }
}
