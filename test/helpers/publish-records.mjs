// node publish-records.mjs ENDPOINT < LINES: puts each line's [KEY, VALUE] into etcd, as fast as it takes them.
import { createInterface } from 'node:readline'
import { Etcd3 } from 'etcd3'

/** Operations of one transaction: etcd's own limit, --max-txn-ops. */
const batch = 128

const client = new Etcd3({ hosts: `http://${process.argv[2]}` })
let puts = []
const commit = async () => {
  if (puts.length > 0)
    await client
      .if('none', 'Version', '==', 0)
      .then(...puts)
      .commit()
  puts = []
}
for await (const line of createInterface({ input: process.stdin })) {
  const [key, value] = JSON.parse(line)
  puts.push(client.put(key).value(value))
  if (puts.length === batch) await commit()
}
await commit()
client.close()
