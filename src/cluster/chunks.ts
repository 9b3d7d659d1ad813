/** A transaction of etcd has 128 operations at most, unless it was started otherwise. */
const operationsATime = 100

/** The same in parts that are small enough for a transaction each. */
export const chunks = <T>(all: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / operationsATime) }, (_, n) =>
    all.slice(n * operationsATime, (n + 1) * operationsATime),
  )
