import { expect, test } from 'vitest';
import { Lines } from './ndjson.ts';

test('lines come whole, however they are cut', () => {
  const text = '{"a":1}\n\n{"b":2}\r\n{"c":"ü"}\n';
  for (let size = 1; size <= text.length; size++) {
    const got: string[] = [];
    const lines = new Lines((l) => got.push(l.trim()));
    for (let i = 0; i < text.length; i += size) lines.push(text.slice(i, i + size));
    expect(got).toEqual(['{"a":1}', '{"b":2}', '{"c":"ü"}']);
  }
});

test('a line without an end is given up, and the next ones are read', () => {
  const got: string[] = [];
  let long = 0;
  const lines = new Lines((l) => got.push(l), () => long++, 100);
  for (let i = 0; i < 1000; i++) lines.push('x'.repeat(50));
  expect((lines as unknown as { rest: string }).rest.length).toBeLessThanOrEqual(150);
  lines.push('\nok\n');
  expect(got).toEqual(['ok']);
  expect(long).toBe(1);
});
