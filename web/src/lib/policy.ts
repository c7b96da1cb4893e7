import { isNode, isPlain, isReal, key } from './figures.ts';
import { format } from './flags.ts';
import { shortKind } from './format.ts';
import type { Edge, Figures, Resource } from './types.ts';

/** Reasons with which a server's policy refuses a client. */
export const denials = ['policy-denied', 'no-identity'] as const;
export type Denial = (typeof denials)[number];

/**
 * What one workload did to another one: the question is for figures of the destination's side,
 * whose agent decides. It is a cell of the matrix. What may be is a question of its own: its
 * answer has the same key.
 */
export interface Pair {
  key: string; // of source and destination, as pairKey
  source: Resource;
  destination: Resource;
  /** Requests that the application has answered, and connections that carry none and were opened. */
  allowed: number;
  /** Requests that a policy has refused, by reason. */
  denied: Partial<Record<Denial, number>>;
  deniedAll: number;
  /**
   * Requests that failed otherwise, and connections that did not come about. Figures do not
   * tell whether a policy would have let them in, or why connections failed.
   */
  otherwise: number;
  /** No agent decides what this destination lets in: none of its pods is in the mesh. */
  undecided: boolean;
  partial: boolean;
}

export const pairKey = (source: Resource, destination: Resource): string => `${key(source)}>${key(destination)}`;

/**
 * What met a policy. A Service is the destination of what reached no pod: it had no endpoint, or
 * was denied at the client's node, which is the server's too.
 */
const reaches = (e: Edge, to: Resource): boolean => (to.kind === 'service' ? denials.some((d) => e.total.failures?.[d]) : to.kind !== 'external' && !isNode(to));

function add(p: Pair, e: Edge) {
  const t = e.total;
  const requests = t.requests ?? 0;
  let failed = 0;
  for (const [reason, n] of Object.entries(t.failures ?? {})) {
    if (reason === 'status') continue;
    failed += n;
    const denial = denials.find((d) => d === reason);
    if (denial) {
      p.denied[denial] = (p.denied[denial] ?? 0) + n;
      p.deniedAll += n;
    } else p.otherwise += n;
  }
  p.allowed += Math.max(0, requests - failed);
  p.partial ||= e.partial ?? false;
  if (requests > 0) return; // its connections carry the requests
  p.allowed += t.tcp?.opened ?? 0;
  p.otherwise += t.tcp?.failed ?? 0;
}

/** Who did: a pair for each source and destination between which something happened. */
export function pairs(f: Figures): Pair[] {
  const byID = new Map(f.resources.map((r) => [r.id, r]));
  const out = new Map<string, Pair>();
  for (const e of f.edges) {
    const source = byID.get(e.source);
    const destination = byID.get(e.destination);
    if (!source || !destination || !reaches(e, destination)) continue;
    const k = pairKey(source, destination);
    let p = out.get(k);
    if (!p) out.set(k, (p = { key: k, source, destination, allowed: 0, denied: {}, deniedAll: 0, otherwise: 0, undecided: isReal(destination) && destination.kind !== 'service' && !destination.meshed, partial: false }));
    // Of pods that are gone, or in a namespace that was not asked for, it is not told whether they
    // were in the mesh. What was mTLS, or came by their node's agent, was.
    if (!destination.pods && !isPlain(e.secured)) p.undecided = false;
    add(p, e);
  }
  return [...out.values()].filter((p) => p.allowed + p.deniedAll + p.otherwise > 0);
}

export interface Matrix {
  sources: Resource[];
  destinations: Resource[];
  cells: Map<string, Pair>;
  /** Of each, how many are left out. */
  hidden: { sources: number; destinations: number };
}

/** The matrix of at most so many rows and columns: those with denials come first, then the busiest. */
export function matrix(list: Pair[], most = 30): Matrix {
  const pick = (end: 'source' | 'destination'): [Resource[], number] => {
    const of = new Map<string, { resource: Resource; denied: number; all: number }>();
    for (const p of list) {
      const k = key(p[end]);
      let w = of.get(k);
      if (!w) of.set(k, (w = { resource: p[end], denied: 0, all: 0 }));
      w.denied += p.deniedAll;
      w.all += p.allowed + p.deniedAll + p.otherwise;
    }
    const chosen = [...of.values()].sort((a, b) => Number(b.denied > 0) - Number(a.denied > 0) || b.all - a.all).slice(0, most);
    return [chosen.map((w) => w.resource).sort((a, b) => (a.namespace === b.namespace ? (a.name < b.name ? -1 : 1) : a.namespace < b.namespace ? -1 : 1)), of.size - chosen.length];
  };
  const [sources, hiddenSources] = pick('source');
  const [destinations, hiddenDestinations] = pick('destination');
  return { sources, destinations, cells: new Map(list.map((p) => [p.key, p])), hidden: { sources: hiddenSources, destinations: hiddenDestinations } };
}

/** The filter of live calls between two workloads; '' where there is none. */
export function callsOf(p: Pick<Pair, 'source' | 'destination'>): string {
  const to = { kind: p.destination.kind, name: p.destination.name, namespace: p.destination.namespace };
  if (!isReal(p.destination)) return '';
  if (!isReal(p.source)) return format(to);
  return format({ kind: p.source.kind, name: p.source.name, namespace: p.source.namespace, to: `${shortKind(to.kind)}/${to.name}`, toNamespace: to.namespace });
}

/** What a workload did outside, and what an EgressNetwork refused it. */
export interface Outside { key: string; source: Resource; destination: string; allowed: number; denied: number; otherwise: number }

/** A row for each workload of a namespace and each place outside that it called. */
export function outside(f: Figures, namespace: string): Outside[] {
  const byID = new Map(f.resources.map((r) => [r.id, r]));
  const out = new Map<string, Outside>();
  for (const e of f.edges) {
    const source = byID.get(e.source);
    const destination = byID.get(e.destination);
    if (!source || destination?.kind !== 'external' || source.namespace !== namespace) continue;
    const k = pairKey(source, destination);
    let o = out.get(k);
    if (!o) out.set(k, (o = { key: k, source, destination: destination.name, allowed: 0, denied: 0, otherwise: 0 }));
    const { requests = 0, failures = {}, tcp } = e.total;
    const failed = Object.entries(failures).reduce((n, [reason, count]) => (reason === 'status' ? n : n + count), 0);
    const denied = failures['egress-denied'] ?? 0;
    o.denied += denied;
    o.otherwise += failed - denied + (requests ? 0 : (tcp?.failed ?? 0));
    o.allowed += Math.max(0, requests - failed) + (requests ? 0 : (tcp?.opened ?? 0));
  }
  return [...out.values()].filter((o) => o.allowed + o.denied + o.otherwise > 0);
}
