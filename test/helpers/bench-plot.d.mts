export interface Group {
  title: string
  unit: string
  bars: { who: string; value: number; margin?: number }[]
}
export interface Curve {
  title: string
  note: string
  points: [number, number][]
}
export function short(value: number): string
export function barsSvg(title: string, groups: readonly Group[]): string
export function curvesSvg(title: string, unit: string, curves: readonly Curve[]): string
