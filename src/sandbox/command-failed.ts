/** A command that could not be run in a sandbox: 126 and 127 are the shell's exit codes, not those of src/errors.ts. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
  constructor(
    readonly exitCode: number,
    message: string,
  ) {
    super(message)
  }
}
