import { expect, test } from 'vitest';
import { commands } from './commands.ts';
import { callsOf, matrix, outside, pairs } from './policy.ts';
import type { Edge, Figures, Resource, Sums } from './types.ts';

const resource = (id: number, name: string, more: Partial<Resource> = {}): Resource => ({ id, kind: 'deployment', namespace: 'shop', name, pods: 1, meshed: 1, ...more });
const edge = (source: number, destination: number, total: Sums, more: Partial<Edge> = {}): Edge => ({ source, destination, protocol: 'http1', secured: 'true', total, ...more });
const figures = (resources: Resource[], edges: Edge[]): Figures => ({ start: '2026-11-29T12:00:00Z', end: '2026-11-29T12:01:00Z', resources, edges });
const web = resource(0, 'web');
const cart = resource(1, 'cart');

test('denials are told by reason, and are not what was let in', () => {
  const [p, ...rest] = pairs(figures([web, cart], [
    edge(0, 1, { requests: 100, success: 70, failures: { status: 10, 'policy-denied': 15, 'connect-refused': 5 } }),
    edge(0, 1, { requests: 4, success: 0, failures: { 'no-identity': 4 } }, { secured: 'no-identity' }),
  ]));
  expect(rest).toEqual([]);
  expect(p).toMatchObject({ key: 'deployment/shop/web>deployment/shop/cart', allowed: 80, denied: { 'policy-denied': 15, 'no-identity': 4 }, deniedAll: 19, otherwise: 5 });
});

test('a connection that fails is not said to be denied: figures do not tell why', () => {
  const [p] = pairs(figures([web, cart], [edge(0, 1, { tcp: { open: 1, opened: 7, failed: 3 } }, { protocol: 'tcp' })]));
  expect(p).toMatchObject({ allowed: 7, deniedAll: 0, otherwise: 3 });
  // The connections of requests are not counted beside them.
  expect(pairs(figures([web, cart], [edge(0, 1, { requests: 5, success: 5, tcp: { open: 1, opened: 2 } })]))[0]!.allowed).toBe(5);
});

test('a server whose pods are gone was in the mesh if it was called with mTLS', () => {
  const gone = resource(1, 'cart-v2', { pods: 0, meshed: 0 });
  expect(pairs(figures([web, gone], [edge(0, 1, { requests: 5, success: 5 })]))[0]!.undecided).toBe(false);
  expect(pairs(figures([web, gone], [edge(0, 1, { requests: 5, success: 5 }, { secured: 'no-identity' })]))[0]!.undecided).toBe(true);
  expect(pairs(figures([web, resource(1, 'old', { meshed: 0 })], [edge(0, 1, { requests: 5, success: 5 })]))[0]!.undecided).toBe(true);
});

test('where no agent decides, nothing is said to be allowed by a policy', () => {
  const legacy = resource(1, 'erp', { meshed: 0, pods: 2 });
  expect(pairs(figures([web, legacy], [edge(0, 1, { requests: 5, success: 5 })]))[0]!.undecided).toBe(true);
  expect(pairs(figures([web, cart], [edge(0, 1, { requests: 5, success: 5 })]))[0]!.undecided).toBe(false);
  // What is outside, and what found no endpoint, meets no policy of the mesh.
  expect(pairs(figures([web, resource(1, 'example.com', { kind: 'external', namespace: '' })], [edge(0, 1, { requests: 5, success: 5 })]))).toEqual([]);
  expect(pairs(figures([web, resource(1, 'none', { kind: 'service' })], [edge(0, 1, { requests: 5, success: 0, failures: { 'no-endpoints': 5 } })]))).toEqual([]);
  // But what is denied before a pod was chosen is told of the Service.
  expect(pairs(figures([web, resource(1, 'cart', { kind: 'service', meshed: 0 })], [edge(0, 1, { requests: 5, success: 0, failures: { 'policy-denied': 5 } })]))[0]).toMatchObject({ deniedAll: 5, allowed: 0, undecided: false });
  // A pair without anything is none.
  expect(pairs(figures([web, cart], [edge(0, 1, {})]))).toEqual([]);
});

test('a matrix that is too large keeps what was denied', () => {
  const many = Array.from({ length: 100 }, (_, i) => resource(i, `w${String(i).padStart(3, '0')}`));
  const edges = many.slice(1).map((r, i) => edge(0, r.id, i === 40 ? { requests: 1, success: 0, failures: { 'policy-denied': 1 } } : { requests: 1000 + i, success: 1000 + i }));
  const m = matrix(pairs(figures(many, edges)), 10);
  expect([m.sources.length, m.destinations.length]).toEqual([1, 10]);
  expect(m.hidden).toEqual({ sources: 0, destinations: 89 });
  expect(m.destinations.map((r) => r.name)).toContain('w041');
  expect(m.cells.get('deployment/shop/w000>deployment/shop/w041')!.deniedAll).toBe(1);
});

test('the command of a denial', () => {
  const c = { command: 'underlane', scope: 'cluster', window: '5m' };
  expect(commands.between(c, web, cart)).toBe('underlane stat deploy/cart -n shop --from deploy/web --from-namespace shop -t 5m -o json');
  const node = resource(3, 'node-1', { kind: 'node', namespace: '' });
  expect(commands.between(c, node, cart)).toBe('underlane stat deploy/cart -n shop -t 5m -o json');
  expect(callsOf({ source: node, destination: cart })).toBe('deploy/cart -n shop');
  const outside = resource(2, '', { kind: 'external', namespace: '' });
  expect(commands.between(c, outside, cart)).toBe('underlane stat deploy/cart -n shop -t 5m -o json');
  expect(callsOf({ source: web, destination: cart })).toBe('deploy/web -n shop --to deploy/cart --to-namespace shop');
  expect(callsOf({ source: outside, destination: cart })).toBe('deploy/cart -n shop');
});

test('what a namespace called outside, and what an EgressNetwork refused', () => {
  const psp = resource(1, 'api.example:443', { kind: 'external', namespace: '' });
  const f = figures([web, psp, cart, resource(3, 'far', { namespace: 'far' })].map((r, id) => ({ ...r, id })), [
    edge(0, 1, { requests: 9, success: 4, failures: { 'egress-denied': 3, status: 1, timeout: 1 } }),
    edge(0, 1, { tcp: { opened: 2, failed: 4 } }, { protocol: 'tls' }),
    edge(0, 2, { requests: 1, success: 1 }),
    edge(3, 1, { requests: 1, success: 1 }),
  ]);
  expect(outside(f, 'shop')).toMatchObject([{ destination: 'api.example:443', allowed: 7, denied: 3, otherwise: 5 }]);
});
