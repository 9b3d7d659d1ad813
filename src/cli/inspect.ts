import type { Inspected } from '../cnm/specs.js'
import { forEachName, printJson, printLines, type Session } from './session.js'

/** Whatever the references mean, each object once. */
export async function inspect({ client, quiet }: Session, refs: string[]): Promise<void> {
  const found = new Map<string, Inspected>()
  await forEachName(refs, async ref => {
    for (const object of await client.get<Inspected[]>('inspect', ref)) found.set(object.id, object)
  })
  const objects = [...found.values()]
  if (quiet) printLines(objects.map(object => object.id))
  else printJson(objects)
}
