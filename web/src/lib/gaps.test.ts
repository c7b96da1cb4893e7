import { expect, test } from 'vitest';
import { holes, nameOf, summary, unknown } from './gaps.ts';

const f = {
  start: '2026-11-29T06:00:00Z', end: '2026-11-29T07:00:00Z', stepSeconds: 60,
  gaps: [
    { start: '2026-11-29T05:50:00Z', end: '2026-11-29T06:01:30Z' },
    { start: '2026-11-29T06:30:00Z', end: '2026-11-29T06:31:00Z', nodes: ['node-1', 'node-2', 'node-3', 'node-4'] },
    { start: '2026-11-29T06:59:00Z', end: '2026-11-29T07:30:00Z' },
    { start: 'never', end: '2026-11-29T07:30:00Z' },
  ],
};
const at = (time: string) => Date.parse(`2026-11-29T${time}Z`) / 1000;

test('holes are those of the time', () =>
  expect(holes(f)).toEqual([
    { from: at('06:00:00'), to: at('06:01:30'), nodes: [] },
    { from: at('06:30:00'), to: at('06:31:00'), nodes: ['node-1', 'node-2', 'node-3', 'node-4'] },
    { from: at('06:59:00'), to: at('07:00:00'), nodes: [] },
  ]));

test.each([
  ['in a gap', 0, true],
  ['half in a gap', 1, false],
  ['known', 2, false],
  ['some nodes were not heard', 30, false],
  ['the last one', 59, true],
])('%s', (_, point, want) => expect(unknown(f, point)).toBe(want));

test('a point that two gaps cover together is not known', () => {
  const gaps = [{ start: '2026-11-29T06:00:00Z', end: '2026-11-29T06:00:30Z' }, { start: '2026-11-29T06:00:30Z', end: '2026-11-29T06:01:00Z' }];
  expect(unknown({ ...f, gaps }, 0)).toBe(true);
});

test('words', () => {
  expect(nameOf(holes(f)[1]!)).toMatch(/^without node-1, node-2, node-3 and 1 more: \d\d:\d\d to \d\d:\d\d$/);
  expect(nameOf(holes(f)[0]!)).toMatch(/^not known: /);
  expect(summary(f)).toBe('2m\u00a030s not known, 1m known in part');
  expect([summary(undefined), summary({ ...f, gaps: [] }), unknown(undefined, 0), unknown({ start: f.start, end: f.end }, 0)]).toEqual(['', '', false, false]);
});
