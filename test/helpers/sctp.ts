/** An SCTP packet with one INIT chunk. */
export function sctpInit(from: number, to: number): Buffer {
  const packet = Buffer.alloc(32)
  packet.writeUInt16BE(from, 0)
  packet.writeUInt16BE(to, 2)
  packet.writeUInt8(1, 12)
  packet.writeUInt16BE(20, 14)
  packet.writeUInt32BE(0x1234, 16)
  packet.writeUInt32BE(65536, 20)
  packet.writeUInt16BE(1, 24)
  packet.writeUInt16BE(1, 26)
  packet.writeUInt32BE(1, 28)
  packet.writeUInt32LE(crc32c(packet), 8)
  return packet
}

function crc32c(data: Buffer): number {
  let crc = 0xffffffff
  for (const byte of data) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  return ~crc >>> 0
}
