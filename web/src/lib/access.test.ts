import { expect, test } from 'vitest';
import { allowedBy, decisionOf, grid, lineName, restKey, shortObject, toneOf, wordsOf } from './access.ts';
import { commands } from './commands.ts';
import { pairs } from './policy.ts';
import type { Access, AccessClient, AccessServer, Edge, Figures, Resource, Sums } from './types.ts';

const client = (name: string, more: Partial<AccessClient> = {}): AccessClient => ({ kind: 'deployment', namespace: 'shop', name, identity: `spiffe://td/ns/shop/sa/${name}`, ...more });
const deny = { verdict: 'deny', conclusion: 'denied by Server shop/cart: none of its policies allows it', object: 'Server.policy.linkerd.io shop/cart', why: 'unmatched' };
const allow = { verdict: 'allow', conclusion: 'allowed by AuthorizationPolicy.policy.linkerd.io shop/clients, rule 1', object: 'AuthorizationPolicy.policy.linkerd.io shop/clients', rule: '1', why: 'rule' };
const cart = (port = 8080, more: Partial<AccessServer> = {}): AccessServer => ({
  namespace: 'shop', kind: 'deployment', name: 'cart', port, mode: 'deny', objects: ['Server.policy.linkerd.io shop/cart'],
  decisions: [{ ...deny, rest: true }, { ...allow, clients: [0] }, { ...allow, audit: 'AuthorizationPolicy.policy.underlane.io shop/watch', clients: [1] }], ...more,
});
const access = (servers: AccessServer[] = [cart()], clients = [client('web'), client('job'), client('old'), { kind: 'network', name: '192.168.0.0/16' }, { kind: 'identity', identity: 'spiffe://td/ns/x/sa/backup' }, { kind: 'stranger' }]): Access => ({
  namespace: 'shop', decidedBy: 'the controller', warnings: [], notes: [], clients, servers,
});
const resource = (id: number, name: string, more: Partial<Resource> = {}): Resource => ({ id, kind: 'deployment', namespace: 'shop', name, pods: 1, meshed: 1, ...more });
const edge = (source: number, destination: number, total: Sums, more: Partial<Edge> = {}): Edge => ({ source, destination, protocol: 'http1', secured: 'true', total, ...more });
const did = (resources: Resource[], edges: Edge[]) => pairs({ start: '2026-11-29T12:00:00Z', end: '2026-11-29T12:01:00Z', resources, edges } as Figures);
const at = 'deployment/shop/cart';
const line = (name: string) => `deployment/shop/${name}`;

test('who may is told of those who did not call, too', () => {
  const g = grid(access(), did([resource(0, 'web'), resource(1, 'cart'), resource(2, 'old')], [edge(0, 1, { requests: 7, success: 7 }), edge(2, 1, { requests: 3, success: 0, failures: { 'policy-denied': 3 } })]));
  const says = (l: string) => [toneOf(g.cell(l, at)!), wordsOf(g.cell(l, at)!)];
  expect(says(line('web'))).toEqual(['allowed', 'may: 7 allowed']);
  expect(says(line('job'))).toEqual(['may', 'may, audited: did not call']);
  expect(says(line('old'))).toEqual(['denied', 'may not: 3 denied']);
  expect(says('network//192.168.0.0/16')).toEqual(['no', 'may not: did not call']);
  expect(says('external//')).toEqual(['no', 'may not: did not call']);
  expect(g.lines.map(lineName)).toEqual(['job', 'old', 'web', 'no identity', 'from 192.168.0.0/16', 'spiffe://td/ns/x/sa/backup']);
  expect(g.cell(line('web'), at)!.verdicts[0]!.decision.object).toBe('AuthorizationPolicy.policy.linkerd.io shop/clients');
  expect(g.cell('deployment/shop/none', at)).toBeUndefined();
});

test('a call that was let in, and would not be now, is told', () => {
  const g = grid(access(), did([resource(0, 'old'), resource(1, 'cart')], [edge(0, 1, { requests: 3, success: 3 })]));
  expect(toneOf(g.cell(line('old'), at)!)).toBe('changed');
  expect(wordsOf(g.cell(line('old'), at)!)).toBe('may not: 3 allowed');
});

test('ports that differ, requests that decide, and servers without a policy', () => {
  const open: AccessServer = { namespace: 'shop', kind: 'deployment', name: 'erp', port: 0, decisions: [{ verdict: 'allow', conclusion: 'allowed: the server is not in the mesh', rest: true }] };
  const request = cart(80, { name: 'api', decisions: [{ verdict: 'needs-request', conclusion: 'it depends on the request', object: 'x', rest: true }] });
  const g = grid(access([cart(8080), cart(9090, { decisions: [{ ...deny, rest: true }] }), open, request]), []);
  expect(wordsOf(g.cell(line('web'), at)!)).toBe('may in part: did not call');
  expect(wordsOf(g.cell(line('old'), at)!)).toBe('may not: did not call');
  expect(toneOf(g.cell(line('web'), 'deployment/shop/erp')!)).toBe('undecided');
  expect(wordsOf(g.cell(line('web'), 'deployment/shop/api')!)).toBe('may, depending on the request: did not call');
  expect(toneOf(g.cell(line('web'), 'deployment/shop/api')!)).toBe('request');
  expect(g.cell(line('web'), at)!.verdicts.map((v) => [v.server.port, v.decision.verdict])).toEqual([[8080, 'allow'], [9090, 'deny']]);
});

test('1,000 clients: those that matter have rows, and the others one together', () => {
  const many = Array.from({ length: 1000 }, (_, i) => client(`w${String(i).padStart(4, '0')}`, i % 2 ? { namespace: 'crowd' } : {}));
  const server = cart(8080, { decisions: [{ ...deny, rest: true }, { ...allow, clients: [500] }] });
  const servers = [server, ...Array.from({ length: 99 }, (_, i) => cart(8080, { name: `s${i}`, objects: [], decisions: [{ ...allow, rest: true }] }))];
  const caller = resource(0, 'w0777', { namespace: 'crowd' });
  const calls = did([caller, resource(1, 'cart')], [edge(0, 1, { requests: 3, success: 0, failures: { 'policy-denied': 3 } })]);
  const g = grid(access(servers, [...many, { kind: 'stranger' }]), calls);
  expect(g.lines.length).toBe(31);
  expect(g.columns.length).toBe(30);
  expect(g.hidden).toEqual({ lines: 971, columns: 70 });
  // Where few matter, few have rows.
  const far = Array.from({ length: 1000 }, (_, i) => client(`w${i}`, { namespace: 'crowd' }));
  expect(grid(access(servers, [...far, { kind: 'stranger' }]), calls).lines.map((l) => l.key)).toEqual(['deployment/crowd/w0777', 'deployment/crowd/w500', 'external//', restKey]);
  for (const name of ['deployment/crowd/w0777', line('w0500'), 'external//']) expect(g.lines.map((l) => l.key)).toContain(name);
  const rest = g.lines.at(-1)!;
  expect([rest.key, lineName(rest), rest.clients.length]).toEqual([restKey, '971 other clients', 971]);
  expect(wordsOf(g.cell(restKey, at)!)).toBe('may not: did not call');
  expect(g.cell(restKey, at)!.verdicts).toMatchObject([{ clients: 971 }]);
  // One that is looked for has a row.
  expect(grid(access(servers, many), [], 'W0998').lines.map((l) => l.key)).toContain(line('w0998'));
  expect(decisionOf(server, 500)!.verdict).toBe('allow');
});

test('what is gone, or may not be seen, is said to be not known', () => {
  const g = grid(access(), did([resource(0, 'gone', { namespace: 'far' }), resource(1, 'cart'), resource(2, 'web'), resource(3, 'past')], [edge(0, 1, { requests: 1, success: 1 }), edge(2, 3, { requests: 1, success: 1 })]));
  expect(wordsOf(g.cell('deployment/far/gone', at)!)).toBe('it is not known whether it may: 1 allowed');
  expect(wordsOf(g.cell(line('web'), 'deployment/shop/past')!)).toBe('it is not known whether it may: 1 allowed');
  expect(toneOf(g.cell(line('job'), 'deployment/shop/past')!)).toBe('none');
  const node = grid(access(), did([resource(0, 'n1', { kind: 'node', namespace: '' }), resource(1, 'cart')], [edge(0, 1, { tcp: { open: 1, opened: 1 } }, { protocol: 'tcp' })]));
  expect(wordsOf(node.cell('node//n1', at)!)).toBe('the node itself, which every policy lets in: 1 allowed');
  expect(node.cell('node//n1', at)!.verdicts).toEqual([]);
  // Servers of other namespaces are not asked for.
  expect(grid(access(), did([resource(0, 'web'), resource(1, 'far', { namespace: 'far' })], [edge(0, 1, { requests: 1, success: 1 })])).columns.map((c) => c.key)).toEqual([at]);
});

test('who may connect to a port, in words', () => {
  expect(allowedBy(access(), cart())).toEqual([
    { who: 'deploy/web', by: 'AuthorizationPolicy.policy.linkerd.io shop/clients, rule 1', request: false, audited: false },
    { who: 'deploy/job', by: 'AuthorizationPolicy.policy.linkerd.io shop/clients, rule 1', request: false, audited: true },
  ]);
  const all = { ...allow, object: 'default audit', audit: 'default audit', rest: true };
  expect(allowedBy(access(), cart(80, { decisions: [all] }))[0]).toMatchObject({ who: 'everybody', audited: true });
  expect(allowedBy(access(), cart(80, { decisions: [{ ...all, rest: false, clients: [0, 1, 2, 3, 4, 5] }] }), 2)[0]!.who).toBe('deploy/web, deploy/job and 4 more');
  expect(shortObject('Server.policy.linkerd.io shop/cart')).toBe('Server shop/cart');
  expect(shortObject('underlane.io')).toBe('underlane.io');
  // Three languages have such a kind.
  expect(shortObject('AuthorizationPolicy.policy.underlane.io shop/cart')).toBe('AuthorizationPolicy shop/cart');
  expect(shortObject('AuthorizationPolicy.security.istio.io shop/cart')).toBe('AuthorizationPolicy.security.istio.io shop/cart');
});

test('the command that explains', () => {
  const c = { command: 'underlane', scope: 'cluster', window: '' };
  expect(commands.explain(c, resource(0, 'web', { namespace: 'front' }), resource(1, 'cart'), 8080)).toBe('underlane authz explain --from deploy/web --from-namespace front --to deploy/cart -n shop --port 8080');
  expect(commands.explain(c, undefined, resource(1, 'cart'), 0)).toBe('underlane authz explain --to deploy/cart -n shop');
  expect(commands.explain(c, resource(0, '$(x)'), resource(1, 'cart'), 1)).toBe("underlane authz explain --from 'deploy/$(x)' --from-namespace shop --to deploy/cart -n shop --port 1");
  expect(commands.authz(c, resource(1, 'cart'))).toBe('underlane authz deploy/cart -n shop -t 15m -o wide');
});
