/** The schema of every record in a store. One with a higher number was written by a newer tsnet. */
export const schemaVersion = 1

/** Every record is JSON, `{ v: schema version, value }`; `json` is the value's. */
export const formatRecord = (json: string): string => `{"v":${schemaVersion},"value":${json}}`

/** What to throw for a record that cannot be read. */
export interface Complaints {
  damaged(why: string, cause?: unknown): Error
  newer(said: string): Error
}

export function parseRecord<T>(text: string, { damaged, newer }: Complaints): T {
  let record: { v?: unknown; value?: unknown } | null
  try {
    record = JSON.parse(text)
  } catch (error) {
    throw damaged('is not JSON', error)
  }
  if (typeof record?.v !== 'number' || record.value === undefined) throw damaged('has no schema version')
  if (record.v > schemaVersion)
    throw newer(`was written by a newer tsnet (schema ${record.v}, this one knows ${schemaVersion})`)
  return record.value as T
}
