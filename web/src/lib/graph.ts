import { covered, health, inPlain, isReal, key, nameOf, Tally, type Health } from './figures.ts';
import type { Edge, Figures, Resource } from './types.ts';

/** A place of the topology: a namespace that is closed, a workload of one that is open, or what is outside. */
export interface Place {
  id: string;
  kind: string;
  namespace: string;
  name: string;
  parent?: string; // the open namespace that it is in
  inbound: Tally;
  outbound: Tally;
  pods: number;
  meshed: number;
}
export interface Link {
  id: string;
  from: string;
  to: string;
  tally: Tally;
  health: Health;
  plain: Edge[];
  all: Edge[];
  services: Set<string>;
  partial: boolean;
}
export interface Graph {
  places: Map<string, Place>;
  links: Map<string, Link>;
  hidden: number; // places beyond the limit
}

export const namespaceID = (ns: string): string => `namespace//${ns}`;

/**
 * The graph of what namespaces say to each other, and of those that are open, what
 * their workloads do. open maps an open namespace to the figures by workload of it. An
 * edge between two open namespaces is in the figures of both, and counts once.
 */
export function graph(closed: Figures, open: Map<string, Figures>, only: string, limit = 120): Graph {
  const places = new Map<string, Place>();
  const links = new Map<string, Link>();
  const placeOf = (r: Resource): Place => {
    const isOpen = open.has(r.namespace);
    const id = !isReal(r) || isOpen || r.kind === 'namespace' ? key(r) : namespaceID(r.namespace);
    let p = places.get(id);
    if (!p) {
      const closedHere = id !== key(r);
      p = { id, kind: closedHere ? 'namespace' : r.kind, namespace: closedHere ? '' : r.namespace, name: closedHere ? r.namespace : nameOf(r), inbound: new Tally(), outbound: new Tally(), pods: r.pods ?? 0, meshed: r.meshed ?? 0 };
      if (isOpen) p.parent = namespaceID(r.namespace);
      places.set(id, p);
    }
    return p;
  };
  const add = (f: Figures, e: Edge, from: Place, to: Place) => {
    const of = covered(f, e);
    from.outbound.add(e.total, of);
    to.inbound.add(e.total, of);
    if (from === to && from.kind === 'namespace') return;
    const id = `${from.id}>${to.id}`;
    let link = links.get(id);
    if (!link) links.set(id, (link = { id, from: from.id, to: to.id, tally: new Tally(), health: 'idle', plain: [], all: [], services: new Set(), partial: false }));
    link.tally.add(e.total, of);
    link.all.push(e);
    if (inPlain(e)) link.plain.push(e);
    if (e.service) link.services.add(`${e.service.name}.${e.service.namespace}`);
    link.partial ||= e.partial ?? false;
  };
  const isOpen = (r: Resource) => open.has(r.kind === 'namespace' ? r.name : r.namespace);
  const byID = new Map(closed.resources.map((r) => [r.id, r]));
  for (const e of closed.edges) {
    const from = byID.get(e.source);
    const to = byID.get(e.destination);
    // What an open namespace does is told by its own figures.
    if (!from || !to || isOpen(from) || isOpen(to)) continue;
    if (only && ![from.name, to.name].includes(only)) continue;
    add(closed, e, placeOf(from), placeOf(to));
  }
  if (!only) for (const r of closed.resources) if (!isOpen(r)) placeOf(r);
  const told = new Set<string>();
  for (const [ns, f] of open) {
    const ids = new Map(f.resources.map((r) => [r.id, r]));
    for (const e of f.edges) {
      const from = ids.get(e.source);
      const to = ids.get(e.destination);
      if (!from || !to) continue;
      const once = [key(from), key(to), e.protocol, e.secured, e.service?.namespace, e.service?.name].join('\n');
      if (from.namespace !== ns && to.namespace !== ns) continue;
      if (told.has(once)) continue;
      told.add(once);
      add(f, e, placeOf(from), placeOf(to));
    }
  }
  for (const l of links.values()) l.health = health(l.tally);
  return trim({ places, links, hidden: 0 }, limit);
}

/** Keeps the places with the most traffic, and those that fail. */
function trim(g: Graph, limit: number): Graph {
  if (g.places.size <= limit) return g;
  const weight = (p: Place) => p.inbound.requests + p.outbound.requests + (p.parent ? 1e12 : 0) + (health(p.inbound) === 'bad' ? 1e9 : 0);
  const kept = [...g.places.values()].sort((a, b) => weight(b) - weight(a)).slice(0, limit);
  const places = new Map(kept.map((p) => [p.id, p]));
  const links = new Map([...g.links].filter(([, l]) => places.has(l.from) && places.has(l.to)));
  return { places, links, hidden: g.places.size - places.size };
}

export type Change = 'new' | 'gone' | 'worse' | 'better' | 'same';

/** How a link differs from what it was: by success first, then by the 99th percentile. */
export function change(now: Tally | undefined, before: Tally | undefined): Change {
  const has = (t: Tally | undefined): t is Tally => t !== undefined && t.requests + t.opened > 0;
  if (!has(now)) return has(before) ? 'gone' : 'same';
  if (!has(before)) return 'new';
  const success = (now.successRate ?? 1) - (before.successRate ?? 1);
  if (Math.abs(success) >= 0.005) return success < 0 ? 'worse' : 'better';
  const a = now.latency('p99');
  const b = before.latency('p99');
  if (a === undefined || b === undefined || b === 0) return 'same';
  return a > b * 1.3 ? 'worse' : a < b / 1.3 ? 'better' : 'same';
}
