/** Tables as `docker` prints them: capital headers, columns three spaces apart, nothing after the last one. */

/** One column: its header and what it shows of an object. */
export type Column<T> = readonly [header: string, cell: (object: T) => string]

export function formatTable<T>(columns: readonly Column<T>[], objects: readonly T[]): string {
  const lines = [columns.map(([header]) => header), ...objects.map(object => columns.map(([, cell]) => cell(object)))]
  const widths = columns.map((_, i) => Math.max(...lines.map(line => line[i]?.length ?? 0)))
  return lines
    .map(
      line =>
        `${line
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('')
}

/** An empty cell would shift the columns for `awk`. */
export const listCell = (words: readonly string[]): string => words.join(',') || '-'
