/** mulberry32: a small generator with a seed, so that a run can be repeated. Returns a whole number from 0 to `below - 1`. */
export function random(seed: number): (below: number) => number {
  let s = seed
  return below => {
    s = (s + 0x6d2b79f5) | 0
    let t = Math.imul(s ^ (s >>> 15), 1 | s)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}
