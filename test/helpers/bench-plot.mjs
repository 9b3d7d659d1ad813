// Drawings of what scripts/bench measured, as SVG text.

const colours = ['#2563eb', '#94a3b8']
const escaped = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;')
const text = (x, y, words, more = '') => `<text x="${x}" y="${y}" ${more}>${escaped(words)}</text>`

const document = (width, height, title, body) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="sans-serif" font-size="13">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...body,
    '</svg>',
    '',
  ].join('\n')

/** Three digits, without an exponent. */
export const short = value =>
  Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)))

/**
 * Groups of horizontal bars, each group with its own scale: `[{ title, unit, bars: [{ who, value, margin? }] }]`. Ours is
 * drawn in another colour than the others; a margin is a line across the bar's end.
 */
export function barsSvg(title, groups) {
  const [width, left, right, row, head] = [820, 190, 110, 22, 34]
  const body = [text(12, 24, title, 'font-size="16" font-weight="bold"')]
  let y = 40
  for (const { title: what, unit, bars } of groups) {
    body.push(text(12, y + 20, `${what} (${unit})`, 'font-weight="bold"'))
    y += head
    const most = Math.max(...bars.map(({ value, margin = 0 }) => value + margin), Number.MIN_VALUE)
    const scale = (width - left - right) / most
    for (const { who, value, margin } of bars) {
      const length = Math.max(1, value * scale)
      const fill = who.startsWith('tsnet') ? colours[0] : colours[1]
      body.push(text(left - 8, y + 15, who, 'text-anchor="end"'))
      body.push(`<rect x="${left}" y="${y + 3}" width="${length.toFixed(1)}" height="${row - 6}" fill="${fill}"/>`)
      if (margin) {
        const [from, to] = [Math.max(0, value - margin), value + margin].map(at => (left + at * scale).toFixed(1))
        body.push(
          `<path d="M${from} ${y + 11}H${to}M${from} ${y + 7}v8M${to} ${y + 7}v8" stroke="#111827" fill="none"/>`,
        )
      }
      body.push(text((left + (value + (margin ?? 0)) * scale + 6).toFixed(1), y + 15, short(value)))
      y += row
    }
    y += 8
  }
  return document(width, y + 8, title, body)
}

/**
 * What one more costs beside how many there are: `[{ title, note, points: [[count, value], ...] }]`, each curve in a field of
 * its own, two beside each other, from zero upwards in both directions.
 */
export function curvesSvg(title, unit, curves) {
  const [width, field, tall, left, top, bottom] = [820, 400, 204, 52, 58, 26]
  const body = [text(12, 24, `${title} (${unit})`, 'font-size="16" font-weight="bold"')]
  for (const [i, { title: what, note, points }] of curves.entries()) {
    const [x0, y0] = [8 + (i % 2) * field, 36 + Math.floor(i / 2) * tall]
    const mostX = Math.max(...points.map(([x]) => x), 1)
    const mostY = Math.max(...points.map(([, y]) => y), 2)
    const at = ([x, y]) => [
      (x0 + left + (x / mostX) * (field - left - 30)).toFixed(1),
      (y0 + tall - bottom - (y / mostY) * (tall - top - bottom)).toFixed(1),
    ]
    const [originX, originY] = at([0, 0])
    const [endX, endY] = at([mostX, mostY])
    const [, oneY] = at([0, 1])
    body.push(text(x0 + 4, y0 + 28, what, 'font-weight="bold" font-size="12"'))
    body.push(`<path d="M${originX} ${endY}V${originY}H${endX}" stroke="#111827" fill="none"/>`)
    body.push(`<path d="M${originX} ${oneY}H${endX}" stroke="#94a3b8" stroke-dasharray="4 4"/>`)
    for (const [value, y] of new Map([[1, oneY], [mostY, endY]])) // biome-ignore format: one line
      body.push(text(x0 + left - 6, Number(y) + 4, short(value), 'text-anchor="end"'))
    body.push(text(x0 + 4, y0 + 43, note, 'font-size="11"'))
    body.push(text(endX, y0 + tall - 8, short(mostX), 'text-anchor="end"'))
    body.push(
      `<polyline points="${points.map(p => at(p).join(',')).join(' ')}" fill="none" stroke="${colours[0]}" stroke-width="2"/>`,
    )
  }
  return document(width, 48 + Math.ceil(curves.length / 2) * tall, title, body)
}
