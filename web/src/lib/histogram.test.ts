import { expect, test } from 'vitest';
import { bucketOf, Histogram, middle, upper } from './histogram.ts';

test('a latency is in the bucket whose bounds hold it', () => {
  for (const ms of [0.001, 0.5, 1, 1.05, 3, 1000, 99_000]) {
    const i = bucketOf(ms);
    expect(ms).toBeLessThanOrEqual(upper(i) * 1.0000001);
    expect(ms).toBeGreaterThan(upper(i - 1));
  }
});

test('quantiles are within 4.5 %', () => {
  const list = Array.from({ length: 5000 }, (_, i) => 0.05 * 1.0017 ** i);
  const counts = new Map<number, number>();
  for (const x of list) counts.set(bucketOf(x), (counts.get(bucketOf(x)) ?? 0) + 1);
  const h = new Histogram().add([...counts]);
  for (const q of [0.01, 0.5, 0.95, 0.99, 1]) {
    const want = list[Math.ceil(q * list.length) - 1]!;
    expect(Math.abs(h.quantile(q)! / want - 1)).toBeLessThan(0.046);
  }
});

test('halves add up to the whole', () => {
  const whole = new Histogram().add([[0, 10], [8, 10], [16, 5]]);
  const halves = new Histogram().add([[0, 4], [16, 5]]).add([[8, 10], [0, 6]]);
  expect([...halves.counts].sort()).toEqual([...whole.counts].sort());
  expect(halves.quantile(0.5)).toBe(middle(8));
  expect(new Histogram().quantile(0.5)).toBeUndefined();
});
