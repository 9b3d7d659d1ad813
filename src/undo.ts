type UndoStep = { name: string; revert: () => unknown }

/** How to reverse the steps that have succeeded so far; run newest first when the unit of work fails. */
export class Undo {
  readonly #steps: UndoStep[] = []

  /** Record the reverse of a step, right after the step has succeeded. */
  add(name: string, revert: () => unknown): void {
    this.#steps.push({ name, revert })
  }

  /** Reverse every recorded step, going on past failures; returns those failures. */
  async unwind(): Promise<Error[]> {
    const failures: Error[] = []
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.revert()
      } catch (error) {
        failures.push(new Error(`undo "${step.name}"`, { cause: error }))
      }
    }
    return failures
  }
}

/** Work failed and so did part of its undoing: `errors[0]` is the first cause, the rest name what is left over. */
export class RollbackIncomplete extends AggregateError {
  override readonly name = 'RollbackIncomplete'
}

/**
 * Run work; if it throws, reverse its recorded steps and rethrow. Success is "returned", failure is "threw":
 * there is no flag to forget and no error variable to shadow.
 */
export async function withUndo<T>(work: (undo: Undo) => Promise<T>): Promise<T> {
  const undo = new Undo()
  try {
    return await work(undo)
  } catch (error) {
    const failures = await undo.unwind()
    if (failures.length === 0) throw error
    const left = failures.map(f => `${f.message}: ${f.cause instanceof Error ? f.cause.message : f.cause}`).join('; ')
    const first = error instanceof Error ? error.message : String(error)
    throw new RollbackIncomplete([error, ...failures], `${first} (left behind: ${left})`, { cause: error })
  }
}
