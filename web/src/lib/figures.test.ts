import { expect, test } from 'vitest';
import { covered, health, isReal, isWorkload, nameOf, plaintext, routed, rows, securedShare, sum, Tally, together, trends } from './figures.ts';
import { change, graph, namespaceID } from './graph.ts';
import { problems } from './problems.ts';
import type { Edge, Figures, Resource, Route } from './types.ts';

const resource = (id: number, name: string, namespace = 'shop', kind = 'deployment'): Resource => ({ id, kind, namespace, name, pods: 1, meshed: 1 });
const edge = (source: number, destination: number, requests: number, success = requests, more: Partial<Edge> = {}): Edge => ({
  source, destination, protocol: 'http1', secured: 'true', total: { requests, success, latency: { p50: 1, p95: 2, p99: 3, buckets: [[0, requests]] } }, ...more,
});
const figures = (resources: Resource[], edges: Edge[]): Figures => ({ start: '2026-11-29T12:00:00Z', end: '2026-11-29T12:01:00Z', resources, edges, nodes: { asked: 1, answered: 1 } });

test('a workload has what it is sent', () => {
  const got = rows(figures([resource(0, 'web'), resource(1, 'cart'), resource(2, 'db')], [edge(0, 1, 100, 90), edge(1, 2, 40)])).get('deployment/shop/cart')!;
  expect(got.inbound.requests).toBe(100);
  expect(got.inbound.successRate).toBeCloseTo(0.9);
  expect(got.outbound.requests).toBe(40);
});

test('percentiles of several edges are those of their histograms', () => {
  const t = new Tally().add({ requests: 99, success: 99, latency: { p99: 1, buckets: [[0, 99]] } }).add({ requests: 1, success: 1, latency: { p99: 256, buckets: [[64, 1]] } });
  expect(t.latency('p99')).toBeLessThan(2);
  expect(t.approximate).toBe(false);
  const without = new Tally().add({ requests: 9, latency: { p99: 5 } }).add({ requests: 1, latency: { p99: 9 } });
  expect(without.latency('p99')).toBe(9);
  expect(without.approximate).toBe(true);
});

test('rates are of the time that each agent remembers, and add up', () => {
  // 600 requests a minute for five minutes, and for the 90 s that another agent remembers.
  const f: Figures = { ...figures([resource(0, 'web'), resource(1, 'cart'), resource(2, 'db')], [edge(0, 1, 3000, 2700), edge(2, 1, 900, 900, { coveredSeconds: 90 })]), end: '2026-11-29T12:05:00Z' };
  expect(f.edges.map((e) => covered(f, e))).toEqual([300, 90]);
  const got = rows(f).get('deployment/shop/cart')!.inbound;
  expect(got.rps).toBeCloseTo(20);
  expect(got.failedRate).toBeCloseTo(1);
  expect(sum(f).rps).toBeCloseTo(20);
  expect(sum(f, (e) => e.source === 2).rps).toBeCloseTo(10);
  const link = graph(f, new Map([['shop', f]]), '').links.get('deployment/shop/db>deployment/shop/cart')!;
  expect(link.tally.rps).toBeCloseTo(10);
  // The gaps of a history are of all edges.
  expect(covered({ ...f, coveredSeconds: 240 }, { coveredSeconds: 90 })).toBe(240);
  // A connection that has carried bytes for 20 s.
  const t = new Tally().add({ tcp: { opened: 4, readBytes: 1000, writeBytes: 3000 } }, 20);
  expect([t.openedRate, t.byteRate]).toEqual([0.2, 200]);
});

test('a Service without a route is none', () => {
  const of = (kind: string, parent: string): Route => ({ kind, namespace: 'shop', name: '', parent: { namespace: 'shop', name: parent }, rules: [] });
  const [split, rest, alone] = [of('TrafficSplit', 'web'), of('', 'web'), of('', 'db')];
  expect(routed([split, rest, alone])).toEqual([split, rest]);
  expect(routed(null)).toEqual([]);
});

test('health', () => {
  expect(health(new Tally())).toBe('idle');
  expect(health(new Tally().add({ requests: 100, success: 99 }))).toBe('ok');
  expect(health(new Tally().add({ requests: 100, success: 98 }))).toBe('warn');
  expect(health(new Tally().add({ requests: 100, success: 94 }))).toBe('bad');
  expect(health(new Tally().add({ tcp: { open: 1 } }))).toBe('ok');
});

test('what goes to the outside is not plaintext of the mesh', () => {
  const f = figures([resource(0, 'web'), resource(1, 'example.com', '', 'external'), resource(2, 'old')], [edge(0, 1, 10, 10, { secured: 'no-identity' }), edge(0, 2, 30, 30, { secured: 'no-identity' }), edge(0, 0, 60)]);
  expect(plaintext(f)).toHaveLength(1);
  expect(securedShare(f)).toBeCloseTo(60 / 90);
});

test('an edge between two open namespaces counts once', () => {
  const all = figures([{ ...resource(0, 'a', '', 'namespace') }, { ...resource(1, 'b', '', 'namespace') }], [edge(0, 1, 10)]);
  const between = figures([resource(0, 'x', 'a'), resource(1, 'y', 'b')], [edge(0, 1, 10)]);
  const closed = graph(all, new Map(), '');
  expect([...closed.links.values()].map((l) => [l.from, l.to, l.tally.requests])).toEqual([[namespaceID('a'), namespaceID('b'), 10]]);
  const one = graph(all, new Map([['a', between]]), '');
  expect([...one.links.values()].map((l) => [l.from, l.to, l.tally.requests])).toEqual([['deployment/a/x', namespaceID('b'), 10]]);
  const both = graph(all, new Map([['a', between], ['b', between]]), '');
  expect([...both.links.values()].map((l) => [l.from, l.to, l.tally.requests])).toEqual([['deployment/a/x', 'deployment/b/y', 10]]);
  expect(both.places.get('deployment/b/y')!.inbound.requests).toBe(10);
});

test('of too many places the busiest and the failing stay', () => {
  const list = Array.from({ length: 300 }, (_, i) => resource(i, `n${i}`, '', 'namespace'));
  const edges = list.slice(1).map((r, i) => edge(0, r.id, i === 5 ? 2 : i * 10 + 1, i === 5 ? 0 : i * 10 + 1));
  const g = graph(figures(list, edges), new Map(), '', 50);
  expect(g.places.size).toBe(50);
  expect(g.hidden).toBe(250);
  expect(g.places.has('namespace//n6')).toBe(true); // fails
  expect(g.places.has('namespace//n299')).toBe(true); // busy
  for (const l of g.links.values()) expect(g.places.has(l.to)).toBe(true);
});

test('change', () => {
  const t = (requests: number, success: number, p99: number) => new Tally().add({ requests, success, latency: { p99 } });
  expect(change(t(100, 80, 5), t(100, 100, 5))).toBe('worse');
  expect(change(t(100, 100, 5), t(100, 80, 5))).toBe('better');
  expect(change(t(100, 100, 50), t(100, 100, 5))).toBe('worse');
  expect(change(t(100, 100, 5), t(10, 10, 5))).toBe('same');
  expect(change(t(1, 1, 5), undefined)).toBe('new');
  expect(change(undefined, t(1, 1, 5))).toBe('gone');
});

test('problems: the worst first, each with a way to it', () => {
  const now = Date.parse('2026-11-29T12:00:00Z');
  const f = figures([resource(0, 'web'), resource(1, 'voting', 'emojivoto'), resource(2, 'ok')], [edge(0, 1, 100, 80, { total: { requests: 100, success: 80, failures: { status: 20 } } }), edge(0, 2, 100, 98, { secured: 'agent-down' })]);
  const got = problems({
    figures: f, answered: { nodes: { asked: 3, answered: 2 }, warnings: ['node-3: its agent does not answer (deadline exceeded)'] }, now,
    resources: [{ ...resource(0, 'late'), certificate: { identity: 'x', expires: '2026-11-29T11:59:00Z' } }, { ...resource(0, 'full'), resources: { oomKills: 1, throttled: 0.5 } }],
  });
  expect(got.map((p) => [p.state, p.subject])).toEqual([['bad', 'node-3'], ['bad', 'deploy/voting'], ['bad', 'deploy/full'], ['bad', 'deploy/late'], ['warn', 'deploy/ok'], ['warn', 'deploy/full'], ['warn', expect.stringMatching(/^1.edge$/)]]);
  expect(got[1]!.path).toBe('/ns/emojivoto/deployment/voting');
  expect(problems({ figures: figures([], []), answered: {}, now })).toEqual([]);
});

test('a service has what is sent by its name, and what found no endpoint is not in plaintext', () => {
  const service = { namespace: 'shop', name: 'db' };
  const lost = edge(0, 2, 3, 0, { service, secured: 'no-identity', total: { requests: 3, success: 0, failures: { 'no-endpoints': 3 } } });
  const f = figures([resource(0, 'web'), resource(1, 'db'), resource(2, 'db', 'shop', 'service')], [edge(0, 1, 997, 997, { service }), lost]);
  const got = rows(f);
  expect(got.get('service/shop/db')!.inbound.successRate).toBeCloseTo(0.997);
  expect(got.get('deployment/shop/db')!.inbound.requests).toBe(997);
  expect(got.get('deployment/shop/web')!.plain).toEqual([]);
  expect(plaintext(f)).toEqual([]);
  expect(securedShare(f)).toBe(1);
  expect(problems({ figures: f, answered: {}, now: 0 })).toEqual([]);
  // What was sent in plaintext, and failed, stays plaintext.
  expect(plaintext(figures(f.resources, [edge(0, 1, 3, 0, { secured: 'no-identity', total: { requests: 3, failures: { status: 3 } } })]))).toHaveLength(1);
});

test('lines over time are of what is sent to it, or of what it sends', () => {
  const points = (n: number) => [{ requests: n, success: n - 1, tcp: { opened: 2 } }, null];
  const f = figures([resource(0, 'web'), resource(1, 'cart')], [{ ...edge(0, 1, 1, 1), points: points(5) }, { ...edge(0, 1, 1, 1), points: points(3) }]);
  const want = [{ requests: 8, failed: 2, opened: 4 }, { requests: 0, failed: 0, opened: 0 }];
  expect([...trends(f)]).toEqual([['deployment/shop/web', want], ['deployment/shop/cart', want]]);
  expect(trends(undefined).size).toBe(0);
});

test('answers of one view say together what is missing', () =>
  expect(together({ nodes: { asked: 3, answered: 3 }, warnings: ['a'] }, undefined, { nodes: { asked: 3, answered: 2 }, warnings: ['b', 'a'], missing: '2m not known' })).toEqual({
    nodes: { asked: 3, answered: 2 }, warnings: ['a', 'b'], missing: '2m not known',
  }));

test('a node is no workload: it has no view, and is not what the mesh could secure', () => {
  const node: Resource = { id: 0, kind: 'node', namespace: '', name: 'node-1' };
  const probe = edge(0, 1, 0, 0, { protocol: 'tcp', secured: 'not-proxied', total: { tcp: { opened: 6 } } });
  const f = figures([node, resource(1, 'cart'), resource(2, 'web')], [probe, edge(2, 1, 10)]);
  expect([isReal(node), isWorkload(node), nameOf(node)]).toEqual([false, false, 'node/node-1']);
  expect(plaintext(f)).toEqual([]);
  expect(securedShare(f)).toBe(1);
  expect(rows(f).get('deployment/shop/cart')!.plain).toEqual([]);
  expect(problems({ figures: f, resources: [{ ...node, resources: { oomKills: 1 } }], answered: {}, now: 0 })).toEqual([]);
  // The topology has it beside the namespaces, and says of its link what it is.
  for (const open of [new Map(), new Map([['shop', f]])]) {
    const g = graph(f, open, '');
    expect(g.places.get('node//node-1')).toMatchObject({ kind: 'node', name: 'node/node-1' });
    expect([...g.links.values()].find((l) => l.from === 'node//node-1')!.plain).toEqual([probe]);
  }
  // Without the exception for nodes, it would be.
  expect(plaintext(figures([{ ...node, kind: 'external' }, resource(1, 'cart')], [probe]))).toEqual([probe]);
});
