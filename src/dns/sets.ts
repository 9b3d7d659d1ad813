// Many values under one key, each once. A key without values is none.

export function include<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const known = index.get(key)
  if (known === undefined) index.set(key, new Set([value]))
  else known.add(value)
}

export function exclude<K, V>(index: Map<K, Set<V>>, key: K, value: V): void {
  const known = index.get(key)
  if (known?.delete(value) && known.size === 0) index.delete(key)
}
