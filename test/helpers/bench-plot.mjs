// Drawings of what scripts/bench measured, as SVG text.

const colours = ['#2563eb', '#94a3b8', '#c2410c', '#7c3aed', '#0f766e', '#a16207']
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

/** Curves of what one more costs beside how many there are: `[{ title, points: [[count, value], ...] }]`, from zero upwards. */
export function curvesSvg(title, unit, curves) {
  const [width, height, left, right, top, bottom] = [820, 360, 60, 20, 44, 44]
  const points = curves.flatMap(curve => curve.points)
  const mostX = Math.max(...points.map(([x]) => x), 1)
  const mostY = Math.max(...points.map(([, y]) => y), Number.MIN_VALUE) * 1.1
  const at = ([x, y]) => [
    (left + (x / mostX) * (width - left - right)).toFixed(1),
    (height - bottom - (y / mostY) * (height - top - bottom)).toFixed(1),
  ]
  const body = [text(12, 24, title, 'font-size="16" font-weight="bold"')]
  const [x0, y0] = at([0, 0])
  body.push(`<path d="M${x0} ${top}V${y0}H${width - right}" stroke="#111827" fill="none"/>`)
  for (const part of [0.25, 0.5, 0.75, 1]) {
    const [x] = at([mostX * part, 0])
    const [, y] = at([0, mostY * part])
    body.push(text(x, height - bottom + 18, short(mostX * part), 'text-anchor="middle"'))
    body.push(text(left - 8, Number(y) + 4, short(mostY * part), 'text-anchor="end"'))
    body.push(`<path d="M${left} ${y}H${width - right}" stroke="#e5e7eb"/>`)
  }
  body.push(text(left, height - 8, 'how many there are already'), text(left - 48, top - 6, unit))
  for (const [i, curve] of curves.entries()) {
    const colour = colours[i % colours.length]
    body.push(
      `<polyline points="${curve.points.map(p => at(p).join(',')).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
    )
    body.push(text(width - right, top + 4 + 16 * i, curve.title, `text-anchor="end" fill="${colour}"`))
  }
  return document(width, height, title, body)
}
