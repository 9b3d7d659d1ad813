/** What to do so that `have` becomes `want`. */
export interface Plan<W, H> {
  add: W[]
  change: { want: W; have: H }[]
  remove: H[]
  keep: H[]
}

/** Compare two collections by key. Pure; the caller decides the order in which the plan is applied. */
export function diff<W, H>(
  want: Iterable<W>,
  have: Iterable<H>,
  key: { want: (w: W) => string; have: (h: H) => string },
  same: (w: W, h: H) => boolean,
): Plan<W, H> {
  const left = new Map<string, H>()
  for (const h of have) left.set(key.have(h), h)
  const plan: Plan<W, H> = { add: [], change: [], remove: [], keep: [] }
  for (const w of want) {
    const k = key.want(w)
    const h = left.get(k)
    left.delete(k)
    if (h === undefined) plan.add.push(w)
    else if (same(w, h)) plan.keep.push(h)
    else plan.change.push({ want: w, have: h })
  }
  plan.remove.push(...left.values())
  return plan
}
