/** Kubernetes quantities of bytes as numbers. PURE. Source: the Kubernetes API conventions, "Quantities". */

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
}

/** `2Gi` -> 2147483648; NaN for what is not a quantity (which compares as false with everything). */
export function quantityBytes(text: string): number {
  const match = /^([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)([KMGTPE]i|[numkMGTPE]?)$/.exec(text)
  const factor = SUFFIXES[match?.[2] ?? ' ']
  return match?.[1] === undefined || factor === undefined ? Number.NaN : Number(match[1]) * factor
}
