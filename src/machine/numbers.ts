/**
 * Numbers in arguments and values, with Redis's rules for what is one. PURE.
 *
 * Integers are signed 64-bit, in canonical form only (no sign but '-', no leading zero, no space). They are
 * JavaScript numbers while that is exact and bigints beyond. Decimals are exact: INCRBYFLOAT must give the
 * same text on every machine, and 0.1 + 0.2 should give 0.3.
 */
import { type Packed, latin1 } from './packed.ts'

export type Integer = number | bigint

const MAX_INT64 = 9223372036854775807n
const MIN_INT64 = -9223372036854775808n
const EXACT_DIGITS = 15

/** The integer that `text` is, or null. */
export function parseIntegerText(text: string): Integer | null {
  const length = text.length
  if (length === 0 || length > 20) return null
  const negative = text.charCodeAt(0) === 0x2d
  const start = negative ? 1 : 0
  if (length === start) return null
  const first = text.charCodeAt(start)
  if (first === 0x30) return length === 1 ? 0 : null
  for (let i = start; i < length; i++) {
    const digit = text.charCodeAt(i)
    if (digit < 0x30 || digit > 0x39) return null
  }
  if (length - start <= EXACT_DIGITS) return Number(text)
  return inRange(BigInt(text))
}

export const parseInteger = (bytes: Uint8Array): Integer | null =>
  bytes.length > 20 ? null : parseIntegerText(latin1(bytes))

/** An argument that must fit a JavaScript integer: counts, times, positions. Null: it does not, or is none. */
export function parseSafeInteger(bytes: Uint8Array): number | null {
  const value = parseInteger(bytes)
  return typeof value === 'number' ? value : null
}

/** The sum, or null where 64 bits overflow. */
export function addIntegers(a: Integer, b: Integer): Integer | null {
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b
    if (Number.isSafeInteger(sum)) return sum
  }
  return inRange(BigInt(a) + BigInt(b))
}

/** -value, or null where 64 bits overflow. */
export const negateInteger = (value: Integer): Integer | null =>
  typeof value === 'number' ? 0 - value : inRange(-value)

function inRange(value: bigint): Integer | null {
  if (value > MAX_INT64 || value < MIN_INT64) return null
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

/** An exact decimal: digits * 10^-scale. */
export interface Decimal {
  readonly digits: bigint
  readonly scale: number
}

/** As many decimals as Redis prints. */
const MAX_SCALE = 17
/** Largest exponent that is understood: that of a double. */
const MAX_EXPONENT = 308
const MAX_DECIMAL_TEXT = 512

/** The decimal that `value` is; 'infinite' for one beyond all bounds, null if it is no number. */
export function parseDecimal(value: Packed | Uint8Array): Decimal | 'infinite' | null {
  // Of a very long one V8 makes no text, and throws.
  if (value.length > MAX_DECIMAL_TEXT) return null
  const text = typeof value === 'string' ? value : latin1(value)
  if (/^[+-]?(inf|infinity)$/i.test(text)) return 'infinite'
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d{1,6}))?$/i.exec(text)
  if (match === null) return null
  const [, sign, whole = '', fraction = '', exponentText = '0'] = match
  if (whole === '' && fraction === '') return null
  const exponent = Number(exponentText)
  const magnitude = BigInt(whole + fraction)
  const digits = sign === '-' ? -magnitude : magnitude
  if (digits === 0n) return { digits, scale: 0 }
  if (exponent + whole.length > MAX_EXPONENT + 1) return 'infinite'
  if (exponent < -MAX_EXPONENT) return { digits: 0n, scale: 0 }
  const scale = fraction.length - exponent
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 }
}

/** a + b, or 'infinite' where the sum is beyond the range of a double. */
export function addDecimals(a: Decimal, b: Decimal): Decimal | 'infinite' {
  const scale = Math.max(a.scale, b.scale)
  const digits = a.digits * 10n ** BigInt(scale - a.scale) + b.digits * 10n ** BigInt(scale - b.scale)
  const whole = (digits < 0n ? -digits : digits) / 10n ** BigInt(scale)
  return whole.toString().length > MAX_EXPONENT + 1 ? 'infinite' : { digits, scale }
}

/** As Redis prints it: no exponent, at most 17 decimals (rounded half away from zero), no trailing zeros. */
export function formatDecimal({ digits, scale }: Decimal): string {
  const negative = digits < 0n
  let magnitude = negative ? -digits : digits
  let places = scale
  if (places > MAX_SCALE) {
    const unit = 10n ** BigInt(places - MAX_SCALE)
    magnitude = (magnitude + unit / 2n) / unit
    places = MAX_SCALE
  }
  const text = magnitude.toString().padStart(places + 1, '0')
  const whole = text.slice(0, text.length - places)
  const fraction = text.slice(text.length - places).replace(/0+$/, '')
  const unsigned = fraction === '' ? whole : `${whole}.${fraction}`
  return negative && magnitude !== 0n ? `-${unsigned}` : unsigned
}
