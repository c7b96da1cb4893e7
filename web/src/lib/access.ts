import { isNode, isReal, key, nameOf } from './figures.ts';
import { count, shortKind } from './format.ts';
import type { Pair } from './policy.ts';
import type { Access, AccessClient, AccessDecision, AccessServer, Resource } from './types.ts';

/** What a server's policies say of a client, over all ports of the server. */
export type May = 'yes' | 'no' | 'request' | 'some' | 'open' | 'node' | 'unknown';

/** What policies say of a client at a port. */
export interface Verdict {
  server: AccessServer;
  decision: AccessDecision;
  /** How many clients it is about. */
  clients: number;
}

/** A client, or several that have no row of their own. */
export interface Line {
  key: string;
  /** Figures have it so: for links and names. */
  resource: Resource;
  /** What it is, where it is no workload. */
  special?: 'network' | 'identity' | 'stranger' | 'rest';
  identity?: string;
  /** Indices in Access.clients; none: policies say nothing of it here, as of what is gone. */
  clients: number[];
}
export interface Cell {
  may: May;
  audited: boolean;
  /** What it did, if anything. */
  pair?: Pair;
  verdicts: Verdict[];
}
export interface Grid {
  lines: Line[];
  columns: { key: string; resource: Resource; ports: AccessServer[] }[];
  hidden: { lines: number; columns: number };
  /** By the keys of line and column, as pairKey. */
  cell: (line: string, column: string) => Cell | undefined;
}

/** Decisions by client, so that a page of cells is found at once. */
const byClient = new WeakMap<AccessServer, Map<number, AccessDecision>>();
export function decisionOf(server: AccessServer, client: number): AccessDecision | undefined {
  let of = byClient.get(server);
  if (!of) byClient.set(server, (of = new Map(server.decisions.flatMap((d) => (d.clients ?? []).map((c) => [c, d] as const)))));
  return of.get(client) ?? server.decisions.find((d) => d.rest);
}

const plain = (kind: string, namespace: string, name: string, meshed = 1): Resource => ({ id: -1, kind, namespace, name, pods: 1, meshed });

function lineOf(c: AccessClient): Omit<Line, 'clients'> {
  const identity = c.identity ? { identity: c.identity } : {};
  switch (c.kind) {
    case 'network':
      return { key: `network//${c.name ?? ''}`, resource: plain('external', '', c.name ?? ''), special: 'network' };
    case 'identity':
      return { key: `identity//${c.identity ?? ''}`, resource: plain('external', '', c.identity ?? ''), special: 'identity', ...identity };
    case 'stranger':
      // Figures have clients from outside as one that has no name.
      return { key: key({ kind: 'external', namespace: '', name: '' }), resource: plain('external', '', ''), special: 'stranger' };
  }
  const resource = plain(c.kind, c.namespace ?? '', c.name ?? '', c.identity ? 1 : 0);
  return { key: key(resource), resource, ...identity };
}

export const restKey = 'rest//';

/** The words for a line, where they are not those of figures. */
export const lineName = (l: Line): string =>
  l.special === 'rest' ? `${count(l.clients.length)} other clients` : l.special === 'stranger' ? 'no identity' : l.special === 'network' ? `from ${l.resource.name}` : isReal(l.resource) ? l.resource.name : nameOf(l.resource);

/** What several ports, or several clients, say together. */
export function together(verdicts: Verdict[]): Pick<Cell, 'may' | 'audited'> {
  const of = new Set(verdicts.map((v) => (v.server.mode === undefined ? 'open' : v.decision.verdict)));
  const audited = verdicts.some((v) => !!v.decision.audit || !!v.decision.wouldDeny);
  if (of.size === 0) return { may: 'unknown', audited };
  if (of.size > 1) return { may: 'some', audited };
  const [only] = of;
  return { may: only === 'open' ? 'open' : only === 'allow' ? 'yes' : only === 'deny' ? 'no' : 'request', audited };
}

/**
 * Who may, joined with who did: at most so many clients and servers. Those whose names have find
 * come first, then those that something was denied to, those that called, those that policies
 * name, and those of the namespace. All others are one row together, so that nobody is left out.
 */
export function grid(a: Access, pairs: Pair[], find = '', most = 30): Grid {
  const did = new Map(pairs.map((p) => [p.key, p]));
  const columns = new Map<string, Grid['columns'][number]>();
  for (const s of a.servers) {
    const k = key(s);
    const c = columns.get(k);
    if (c) c.ports.push(s);
    else columns.set(k, { key: k, resource: plain(s.kind, s.namespace, s.name, s.mode === undefined ? 0 : 1), ports: [s] });
  }
  const lines = new Map<string, Line>();
  a.clients.forEach((c, i) => {
    const l = lineOf(c);
    const has = lines.get(l.key);
    if (has) has.clients.push(i);
    else lines.set(l.key, { ...l, clients: [i] });
  });
  const weight = new Map<string, { denied: number; calls: number }>();
  for (const p of pairs) {
    const [source, destination] = [key(p.source), key(p.destination)];
    if (p.destination.namespace !== a.namespace) continue;
    if (!columns.has(destination)) columns.set(destination, { key: destination, resource: p.destination, ports: [] });
    if (!lines.has(source)) lines.set(source, { key: source, resource: p.source, clients: [] });
    for (const k of [`from ${source}`, `to ${destination}`]) {
      const w = weight.get(k) ?? { denied: 0, calls: 0 };
      w.denied += p.deniedAll;
      w.calls += p.allowed + p.deniedAll + p.otherwise;
      weight.set(k, w);
    }
  }
  const special = new Set<number>(a.servers.flatMap((s) => s.decisions.filter((d) => !d.rest).flatMap((d) => d.clients ?? [])));
  const wanted = find.toLowerCase();
  const score = (l: Line): number => {
    const w = weight.get(`from ${l.key}`);
    const named = wanted !== '' && `${l.resource.kind}/${lineName(l)} ${l.resource.namespace} ${l.identity ?? ''}`.toLowerCase().includes(wanted);
    return (named ? 32 : 0) + (w?.denied ? 16 : 0) + (w ? 8 : 0) + (l.special ? 4 : 0) + (l.clients.some((c) => special.has(c)) ? 2 : 0) + (l.resource.namespace === a.namespace ? 1 : 0);
  };
  const ranked = [...lines.values()].map((l) => ({ l, s: score(l), n: weight.get(`from ${l.key}`)?.calls ?? 0 })).sort((x, y) => y.s - x.s || y.n - x.n);
  const rows = ranked.length <= most ? most : Math.min(most, Math.max(1, ranked.filter((r) => r.s > 0).length));
  const shown = ranked.slice(0, rows).map((r) => r.l);
  const rest = ranked.slice(rows).map((r) => r.l);
  const by = (l: Line) => [l.special ? 1 : 0, l.resource.namespace, l.resource.name] as const;
  shown.sort((x, y) => compare(by(x), by(y)));
  if (rest.length) shown.push({ key: restKey, resource: plain('other', '', ''), special: 'rest', clients: rest.flatMap((l) => l.clients) });
  const rules = (c: Grid['columns'][number]) => c.ports.some((p) => (p.objects?.length ?? 0) > 0);
  const servers = [...columns.values()].sort((x, y) => Number(!!weight.get(`to ${y.key}`)?.denied) - Number(!!weight.get(`to ${x.key}`)?.denied) || Number(rules(y)) - Number(rules(x)) || (weight.get(`to ${y.key}`)?.calls ?? 0) - (weight.get(`to ${x.key}`)?.calls ?? 0));
  const at = servers.slice(0, most).sort((x, y) => compare([x.resource.namespace, x.resource.name], [y.resource.namespace, y.resource.name]));
  const lineAt = new Map(shown.map((l) => [l.key, l]));
  const columnAt = new Map(at.map((c) => [c.key, c]));
  return {
    lines: shown, columns: at, hidden: { lines: rest.length, columns: servers.length - at.length },
    cell: (line, column) => {
      const l = lineAt.get(line);
      const c = columnAt.get(column);
      return l && c ? cellOf(l, c.ports, did.get(`${line}>${column}`)) : undefined;
    },
  };
}

function cellOf(l: Line, ports: AccessServer[], pair: Pair | undefined): Cell {
  const verdicts: Verdict[] = [];
  for (const server of ports) {
    const of = new Map<AccessDecision, number>();
    for (const c of l.clients) {
      const d = decisionOf(server, c);
      if (d) of.set(d, (of.get(d) ?? 0) + 1);
    }
    for (const [decision, clients] of of) verdicts.push({ server, decision, clients });
  }
  // What a node does itself, such as its probes, every policy lets in.
  return { ...(isNode(l.resource) ? { may: 'node' as const, audited: false } : together(verdicts)), ...(pair ? { pair } : {}), verdicts };
}

function compare(a: readonly (string | number)[], b: readonly (string | number)[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1;
  return 0;
}

/** How a cell looks, and its words. */
export type Tone = 'allowed' | 'may' | 'denied' | 'no' | 'undecided' | 'failed' | 'request' | 'changed' | 'none';
export function toneOf(c: Cell): Tone {
  const p = c.pair;
  if (p?.deniedAll) return 'denied';
  if (c.may === 'open' || (c.may === 'unknown' && p?.undecided)) return 'undecided';
  if (c.may === 'no') return p?.allowed ? 'changed' : p ? 'denied' : 'no';
  if (p) return p.allowed ? 'allowed' : 'failed';
  return c.may === 'unknown' ? 'none' : c.may === 'yes' || c.may === 'node' ? 'may' : 'request';
}

const said: Record<May, string> = {
  yes: 'may', no: 'may not', request: 'may, depending on the request', some: 'may in part', open: 'no policy decides', node: 'the node itself, which every policy lets in', unknown: 'it is not known whether it may',
};
export function wordsOf(c: Cell): string {
  const p = c.pair;
  const counts = p
    ? [p.allowed > 0 && `${count(p.allowed)} ${p.undecided ? 'came through' : 'allowed'}`, p.deniedAll > 0 && `${count(p.deniedAll)} denied`, p.otherwise > 0 && `${count(p.otherwise)} failed otherwise`].filter(Boolean).join(', ')
    : 'did not call';
  return `${said[c.may]}${c.audited ? ', audited' : ''}: ${counts}`;
}

/** Kinds that several API groups have, with the group whose objects need not name it (ShortName in pkg/policy/authz). */
const shared: Record<string, string> = { AuthorizationPolicy: 'policy.underlane.io', HTTPRoute: 'gateway.networking.k8s.io' };

/** An object without its API group, unless others have such a kind: "Server shop/api", "AuthorizationPolicy.security.istio.io shop/api". */
export function shortObject(object: string): string {
  const at = object.indexOf(' ');
  if (at < 0) return object;
  const [kind, ...group] = object.slice(0, at).split('.');
  const own = shared[kind!];
  return own && own !== group.join('.') ? object : `${kind} ${object.slice(at + 1)}`;
}

/** What decided, by name and rule. */
export const byOf = (d: AccessDecision): string => (d.object ? shortObject(d.object) + (d.rule ? `, rule ${d.rule}` : '') : '');

/** Who may connect to a port, in words: at most so many names for each object that allows. */
export function allowedBy(a: Access, s: AccessServer, most = 3): { who: string; by: string; request: boolean; audited: boolean }[] {
  return s.decisions.filter((d) => d.verdict !== 'deny').map((d) => {
    const names = (d.clients ?? []).map((c) => a.clients[c]!).map((c) => c.kind === 'stranger' ? 'clients without an identity' : c.kind === 'identity' ? (c.identity ?? '') : c.kind === 'network' ? (c.name ?? '') : `${shortKind(c.kind)}/${c.name}${c.namespace === s.namespace ? '' : ` in ${c.namespace}`}`);
    const who = d.rest ? (s.decisions.length === 1 ? 'everybody' : 'all others') : names.length > most ? `${names.slice(0, most).join(', ')} and ${count(names.length - most)} more` : names.join(', ');
    return { who, by: byOf(d), request: d.verdict !== 'allow', audited: !!d.audit || !!d.wouldDeny };
  });
}
