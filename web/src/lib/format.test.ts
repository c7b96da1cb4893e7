import { expect, test } from 'vitest';
import { bytes, cores, count, ms, percent, quote, rate, span, straight } from './format.ts';

const plain = (s: string) => s.replaceAll('\u00a0', ' ');

test.each([
  ['report-\u202efdp.exe', 'report-\ufffdfdp.exe'],
  ['a\u2066b\u2069', 'a\ufffdb\ufffd'],
  ['plain ünïcode', 'plain ünïcode'],
])('text whose direction is turned: %j', (text, want) => expect([straight(text), straight(text)]).toEqual([want, want]));

test.each([
  ['web', 'web'],
  ["a b'c", `'a b'"'"'c'`],
  ['a\nreboot', `$'a\\x0areboot'`],
  ["\x1b[201~'\\", `$'\\x1b[201~\\'\\\\'`],
  ['\u202ex', `$'\\u202ex'`],
])('a word for a shell: %j', (text, want) => expect(quote(text)).toBe(want));

test.each([
  [undefined, '–'], [0, '0'], [7, '7'], [999, '999'], [1000, '1000'], [1000.5, '1.00k'], [12_345, '12.3k'], [999_600, '1.00M'], [5e9, '5.00G'], [-15_000, '-15.0k'],
])('count %s', (n, want) => expect(count(n)).toBe(want));

test.each([
  [undefined, '–'], [0, '0'], [0.01, '<0.1'], [0.3, '0.3'], [14.24, '14.2'], [120.4, '120'], [7540, '7.54k'],
])('rate %s', (n, want) => expect(rate(n)).toBe(want));

// What failed once in ten thousand must not read as all well.
test.each([
  [undefined, '–'], [NaN, '–'], [1, '100 %'], [0.999999, '>99.99 %'], [0.99996, '>99.99 %'], [0.9999, '99.99 %'], [0.99995, '>99.99 %'], [0.99899, '99.89 %'], [0.841, '84.1 %'], [0.05, '5.00 %'], [0, '0.0 %'],
])('percent %s', (n, want) => expect(plain(percent(n))).toBe(want));

test.each([
  [undefined, '–'], [0, '0 ms'], [0.0123, '12.3 µs'], [0.92, '0.92 ms'], [12, '12 ms'], [999.9, '1.00 s'], [1234, '1.23 s'], [61_000, '1m 1s'],
])('ms %s', (n, want) => expect(plain(ms(n))).toBe(want));

test.each([
  [0, '0 s'], [59.4, '59s'], [61, '1m 1s'], [3600, '1h'], [93_780, '1d 2h'], [-5, '0 s'], [Infinity, '–'],
])('span %s', (n, want) => expect(plain(span(n))).toBe(want));

test('bytes and cores', () => {
  expect(plain(bytes(1023))).toBe('1023 B');
  expect(plain(bytes(1536))).toBe('1.50 KiB');
  expect(plain(bytes(undefined))).toBe('–');
  expect(cores(0.289)).toBe('289m');
  expect(cores(1.5)).toBe('1.50');
});
