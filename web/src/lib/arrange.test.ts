import { expect, test } from 'vitest';
import { arrange, type Question } from './arrange.ts';

function random(seed: number) {
  let x = seed;
  return () => ((x = (x * 1103515245 + 12345) % 2147483648) / 2147483648);
}
function question(n: number, m: number, groups = 0): Question {
  const r = random(n + m);
  const nodes = Array.from({ length: n }, (_, i) => ({ id: `n${i}`, width: 168, height: 50, ...(i < groups * 4 ? { parent: `g${i % groups}` } : {}) }));
  const edges = Array.from({ length: m }, () => ({ from: `n${Math.floor(r() * n)}`, to: `n${Math.floor(r() * n)}` }));
  return { id: 1, direction: 'LR', view: { width: 1200, height: 660 }, nodes, edges };
}

test.each([[1, 0, 0], [2, 1, 0], [10, 20, 0], [20, 40, 2], [46, 196, 0], [46, 196, 2], [120, 900, 3], [200, 0, 0]])('%s places, %s edges, %s groups: nothing lies on another thing', (n, m, groups) => {
  const a = arrange(question(n, m, groups));
  const boxes = Object.entries(a.nodes);
  expect(boxes).toHaveLength(n);
  for (const [i, [idA, p]] of boxes.entries()) {
    expect(p.x).toBeGreaterThanOrEqual(0);
    expect(p.y).toBeGreaterThanOrEqual(0);
    expect(p.x + p.width).toBeLessThanOrEqual(a.width + 1);
    expect(p.y + p.height).toBeLessThanOrEqual(a.height + 1);
    for (const [idB, q] of boxes.slice(i + 1)) {
      const apart = p.x + p.width <= q.x || q.x + q.width <= p.x || p.y + p.height <= q.y || q.y + q.height <= p.y;
      if (!apart) throw new Error(`${idA} and ${idB} overlap`);
    }
  }
  for (const e of question(n, m, groups).edges) if (e.from !== e.to) expect(a.edges[`${e.from}>${e.to}`]!.d).toMatch(/^M[\d.-]+ [\d.-]+[CLQ]/);
  expect(JSON.stringify(a)).not.toContain('null'); // NaN
});

test.each([[22, 76, 1], [22, 76, 0], [12, 60, 0], [46, 196, 2], [8, 9, 1]])('%s places, %s edges, %s groups can be read', (n, m, groups) => {
  const a = arrange(question(n, m, groups));
  expect(Math.min(1200 / a.width, 660 / a.height)).toBeGreaterThan(0.45);
});

test('many places fill a picture of its shape', () => {
  const a = arrange(question(46, 196));
  expect(a.width / a.height).toBeGreaterThan(1);
  expect(a.width / a.height).toBeLessThan(3.6);
});

test('the same question has the same answer', () => expect(arrange(question(60, 200, 2))).toEqual(arrange(question(60, 200, 2))));

test('callers are left of what they call', () => {
  const nodes = Array.from({ length: 40 }, (_, i) => ({ id: `n${String(i).padStart(2, '0')}`, width: 168, height: 50 }));
  const a = arrange({ id: 1, direction: 'LR', view: { width: 1200, height: 660 }, nodes, edges: nodes.slice(1).map((n, i) => ({ from: nodes[i]!.id, to: n.id })) });
  for (let i = 1; i < nodes.length; i++) expect(a.nodes[nodes[i]!.id]!.x).toBeGreaterThanOrEqual(a.nodes[nodes[i - 1]!.id]!.x);
});
