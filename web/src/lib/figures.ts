import { summary } from './gaps.ts';
import { Histogram } from './histogram.ts';
import type { Answered, Edge, Figures, Resource, Route, Secured, Sums } from './types.ts';

/** Sums that are added to: of many edges, or of one. */
export class Tally {
  requests = 0;
  success = 0;
  retries = 0;
  failures: Record<string, number> = {};
  open = 0;
  opened = 0;
  failedConns = 0;
  readBytes = 0;
  writeBytes = 0;
  retransmits = 0;
  srtt: number | undefined;
  /**
   * Of requests, of those that failed, of connections that were opened, and of bytes, a
   * second. Agents remember different times: what each has counted has a rate of its own,
   * and the rates add up.
   */
  rps = 0;
  failedRate = 0;
  openedRate = 0;
  byteRate = 0;
  // Most tallies need no histogram: a page has thousands of them.
  private histogram: Histogram | undefined;
  private p50: number | undefined;
  private p95: number | undefined;
  private p99: number | undefined;
  private latencies = 0;

  /** seconds: the time that s is of; without it there are no rates. */
  add(s: Sums | null | undefined, seconds?: number): this {
    if (!s) return this;
    if (seconds) {
      const of = Math.max(1, seconds);
      this.rps += (s.requests ?? 0) / of;
      this.failedRate += ((s.requests ?? 0) - (s.success ?? 0)) / of;
      this.openedRate += (s.tcp?.opened ?? 0) / of;
      this.byteRate += ((s.tcp?.readBytes ?? 0) + (s.tcp?.writeBytes ?? 0)) / of;
    }
    this.requests += s.requests ?? 0;
    this.success += s.success ?? 0;
    this.retries += s.retries ?? 0;
    if (s.failures) for (const reason in s.failures) this.failures[reason] = (this.failures[reason] ?? 0) + s.failures[reason]!;
    const t = s.tcp;
    if (t) {
      this.open += t.open ?? 0;
      this.opened += t.opened ?? 0;
      this.failedConns += t.failed ?? 0;
      this.readBytes += t.readBytes ?? 0;
      this.writeBytes += t.writeBytes ?? 0;
      this.retransmits += t.retransmits ?? 0;
      if (t.srtt !== undefined) this.srtt = Math.max(this.srtt ?? 0, t.srtt);
    }
    const l = s.latency;
    if (l && (s.requests ?? 0) > 0) {
      this.latencies++;
      if (l.buckets) (this.histogram ??= new Histogram()).add(l.buckets);
      if (l.p50 !== undefined) this.p50 = Math.max(this.p50 ?? 0, l.p50);
      if (l.p95 !== undefined) this.p95 = Math.max(this.p95 ?? 0, l.p95);
      if (l.p99 !== undefined) this.p99 = Math.max(this.p99 ?? 0, l.p99);
    }
    return this;
  }

  get successRate(): number | undefined {
    return this.requests > 0 ? this.success / this.requests : undefined;
  }
  get failed(): number {
    return this.requests - this.success;
  }
  /**
   * A percentile of all that was added: what the API says of one edge, and of several
   * what their histograms make together. Without histograms it is the largest of them,
   * an upper bound (see approximate).
   */
  latency(p: 'p50' | 'p95' | 'p99'): number | undefined {
    if (this.latencies > 1 && this.histogram?.total) return this.histogram.quantile(Number(p.slice(1)) / 100);
    return this[p];
  }
  get approximate(): boolean {
    return this.latencies > 1 && !this.histogram?.total;
  }
}

/** What is not mutual TLS, and did not stay in one kernel. */
export const isPlain = (s: Secured): boolean => s !== 'true' && s !== 'same-node';

/** The same of an edge. What found no endpoint went nowhere, and of connections that all failed nothing passed. */
export function inPlain(e: Edge): boolean {
  if (!isPlain(e.secured)) return false;
  const { requests = 0, failures, tcp = {} } = e.total;
  if (requests > 0) return failures?.['no-endpoints'] !== requests;
  return !tcp.failed || (tcp.opened ?? 0) + (tcp.open ?? 0) + (tcp.readBytes ?? 0) + (tcp.writeBytes ?? 0) > 0;
}

export interface Row {
  resource: Resource;
  inbound: Tally;
  outbound: Tally;
  plain: Edge[];
  edges: number;
  partial: boolean;
}

/**
 * A row for each resource: as in Linkerd, the figures of a workload are those of what it
 * is sent.
 */
export function rows(f: Figures): Map<string, Row> {
  const out = new Map<string, Row>();
  const byID = new Map<number, Row>();
  for (const r of f.resources) {
    const row: Row = { resource: r, inbound: new Tally(), outbound: new Tally(), plain: [], edges: 0, partial: false };
    out.set(key(r), row);
    byID.set(r.id, row);
  }
  for (const e of f.edges) {
    const from = byID.get(e.source);
    const to = byID.get(e.destination);
    const of = covered(f, e);
    from?.outbound.add(e.total, of);
    to?.inbound.add(e.total, of);
    for (const row of new Set([from, to])) {
      if (!row) continue;
      row.edges++;
      row.partial ||= e.partial ?? false;
      if (inPlain(e) && isOfMesh(from?.resource, to?.resource)) row.plain.push(e);
    }
    // A Service is an end of those calls only that found no endpoint; its figures are
    // those of all calls by its name.
    const service = e.service && out.get(key({ kind: 'service', ...e.service }));
    if (service && service !== to) {
      service.inbound.add(e.total, of);
      service.edges++;
    }
  }
  return out;
}

/** What a line over time needs of a step: much less than a Tally, of which there would be thousands. */
export interface Point {
  requests: number;
  failed: number;
  opened: number;
}

/** Adds the points of an edge to a list, which gets as long as they are. */
export function addPoints(list: Point[], points: readonly (Sums | null)[] | undefined): Point[] {
  points?.forEach((p, i) => {
    const at = (list[i] ??= { requests: 0, failed: 0, opened: 0 });
    if (!p) return;
    at.requests += p.requests ?? 0;
    at.failed += (p.requests ?? 0) - (p.success ?? 0);
    at.opened += p.tcp?.opened ?? 0;
  });
  return list;
}

/**
 * The line over time of each resource, by its key: of what it is sent, or of what it sends
 * where it is sent nothing.
 */
export function trends(series: Figures | undefined): Map<string, Point[]> {
  const inbound = new Map<number, Point[]>();
  const outbound = new Map<number, Point[]>();
  const listOf = (m: Map<number, Point[]>, id: number) => m.get(id) ?? (m.set(id, []), m.get(id)!);
  for (const e of series?.edges ?? []) {
    addPoints(listOf(inbound, e.destination), e.points);
    addPoints(listOf(outbound, e.source), e.points);
  }
  return new Map((series?.resources ?? []).map((r) => [key(r), inbound.get(r.id) ?? outbound.get(r.id) ?? []]));
}

export const key = (r: { kind: string; namespace: string; name: string }): string => `${r.kind}/${r.namespace}/${r.name}`;

/** A node itself: its own processes, such as the kubelet with its probes, which no agent carries. */
export const isNode = (r: { kind: string }): boolean => r.kind === 'node';

/** What has a view of its own: it is neither outside, nor a node, nor several things together. */
export const isReal = (r: { kind: string }): boolean => r.kind !== 'external' && r.kind !== 'other' && !isNode(r);

/** What owns pods. */
export const isWorkload = (r: { kind: string }): boolean => isReal(r) && !['pod', 'service', 'namespace'].includes(r.kind);

/** A name for people: what is outside may have none, and what was too much has none. A node's is as the command line has it. */
export const nameOf = (r: { kind: string; name: string }): string => (isNode(r) ? `node/${r.name}` : r.name) || (r.kind === 'external' ? 'clients outside' : r.kind === 'other' ? 'all others' : r.kind);

/** What is to be said of how whole the figures are. */
export function answered(f: Figures): Answered {
  const late = f.since && Date.parse(f.since) > Date.parse(f.start);
  const missing = summary(f);
  return { warnings: f.warnings ?? [], ...(missing ? { missing } : {}), ...(f.nodes ? { nodes: f.nodes } : {}), ...(late ? { since: f.since! } : {}) };
}

/** What several answers of one view say together: the fewest nodes, and all warnings once. */
export function together(...answers: (Answered | undefined)[]): Answered {
  const out: Answered = { warnings: [...new Set(answers.flatMap((a) => a?.warnings ?? []))] };
  for (const a of answers) {
    const silent = (n: { asked: number; answered: number }) => n.asked - n.answered;
    if (a?.nodes && (!out.nodes || silent(a.nodes) > silent(out.nodes))) out.nodes = a.nodes;
    if (a?.missing) out.missing = a.missing;
    if (a?.since) out.since = a.since;
  }
  return out;
}

/** The routes, and what they had no say in, without the Services that have none. */
export function routed(items: readonly Route[] | null | undefined): Route[] {
  const of = (r: Route) => `${r.parent.namespace}/${r.parent.name}`;
  const parents = new Set((items ?? []).filter((r) => r.kind).map(of));
  return (items ?? []).filter((r) => parents.has(of(r)));
}

/** Seconds that the figures cover: of a history those of which something is known. */
export const seconds = (f: Figures): number => Math.max(1, f.coveredSeconds ?? (Date.parse(f.end) - Date.parse(f.start)) / 1000);

/**
 * Seconds that the sums of an edge are of. An agent remembers nothing from before its start;
 * the gaps of a history are of all edges.
 */
export const covered = (f: Figures, e: Pick<Edge, 'coveredSeconds'>): number => (f.coveredSeconds === undefined && e.coveredSeconds ? Math.max(1, e.coveredSeconds) : seconds(f));

/** All edges together, or those that pass. */
export function sum(f: Figures | undefined, passes: (e: Edge) => boolean = () => true): Tally {
  const out = new Tally();
  for (const e of f?.edges ?? []) if (passes(e)) out.add(e.total, covered(f!, e));
  return out;
}

export type Health = 'idle' | 'ok' | 'warn' | 'bad';

/** How traffic goes: below 99 % of success it is worth a look, below 95 % it is broken. */
export function health(t: Tally): Health {
  const s = t.successRate;
  if (s === undefined) return t.failedConns > 0 ? 'warn' : t.opened + t.open > 0 ? 'ok' : 'idle';
  return s < 0.95 ? 'bad' : s < 0.99 ? 'warn' : 'ok';
}
export const rank: Record<Health, number> = { bad: 3, warn: 2, ok: 1, idle: 0 };

export function worst(a: Health, b: Health): Health {
  return rank[a] >= rank[b] ? a : b;
}

/** Whether the mesh could secure it. What goes to the outside cannot be the mesh's, nor what a node does itself. */
const isOfMesh = (from: Resource | undefined, to: Resource | undefined): boolean => to?.kind !== 'external' && !(from && isNode(from));

/** The edges that the mesh could secure. */
function ofMesh(f: Figures): Edge[] {
  const byID = new Map(f.resources.map((r) => [r.id, r]));
  return f.edges.filter((e) => isOfMesh(byID.get(e.source), byID.get(e.destination)));
}

/** The edges between workloads that the mesh does not secure. */
export const plaintext = (f: Figures): Edge[] => ofMesh(f).filter(inPlain);

/** The share of requests and connections between workloads that is mutual TLS, or stayed on its node. */
export function securedShare(f: Figures): number | undefined {
  let all = 0;
  let plain = 0;
  for (const e of ofMesh(f)) {
    const n = (e.total.requests ?? 0) || (e.total.tcp?.opened ?? 0);
    all += n;
    if (inPlain(e)) plain += n;
  }
  return all > 0 ? 1 - plain / all : undefined;
}
