interface Look {
  seconds: number
  work: () => void
}

const looks = new Set<Look>()
let timer: NodeJS.Timeout | undefined
let second = 0

/**
 * Call `work` every so many seconds, until what this returns is called. All who look at something now and then do so in one go: to
 * wake up costs a processor more than most looks. Does not keep the process alive.
 */
export function everySeconds(seconds: number, work: () => void): () => void {
  const look = { seconds, work }
  looks.add(look)
  timer ??= setInterval(tick, 1000).unref()
  return () => {
    looks.delete(look)
    if (looks.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
}

function tick(): void {
  second++
  for (const { seconds, work } of [...looks]) if (second % seconds === 0) work()
}
