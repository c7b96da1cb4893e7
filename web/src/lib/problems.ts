import { health, isReal, isWorkload, key, plaintext, rows } from './figures.ts';
import { percent, plural, shortKind, span } from './format.ts';
import type { Answered, Figures, Resource } from './types.ts';

export interface Problem {
  state: 'bad' | 'warn';
  /** What is so, and of what. */
  subject: string;
  text: string;
  namespace?: string;
  resource?: Resource;
  /** A view to go to, as a path and parameters. */
  path: string;
  params?: Record<string, string>;
  weight: number;
}

/** What is worth a look, the worst first. Only what the figures say, never a guess. */
export function problems(of: { figures?: Figures; resources?: Resource[]; answered: Answered; now: number }): Problem[] {
  const out: Problem[] = [];
  const { figures, resources = [], answered, now } = of;
  const missing = (answered.nodes?.asked ?? 0) - (answered.nodes?.answered ?? 0);
  if (missing > 0) {
    const [node, why] = (answered.warnings?.[0] ?? '').split(/:\s+(.*)/s);
    out.push({ state: 'bad', subject: missing === 1 && node && why ? node : plural(missing, 'agent'), text: missing === 1 && why ? why : 'did not answer', path: '/agents', weight: 1e9 });
  }
  if (figures) {
    for (const row of rows(figures).values()) {
      const h = health(row.inbound);
      if ((h !== 'bad' && h !== 'warn') || !isReal(row.resource)) continue;
      const reasons = Object.entries(row.inbound.failures).sort((a, b) => b[1] - a[1]);
      const why = reasons[0] ? ` (${reasons[0][0] === 'status' ? 'its own errors' : reasons[0][0]})` : '';
      const text = row.inbound.requests > 0 ? `${percent(1 - (row.inbound.successRate ?? 1))} of its requests fail${why}` : `${plural(row.inbound.failedConns, 'connection')} to it failed${why}`;
      out.push({ state: h, ...about(row.resource), text, weight: 1e6 * (h === 'bad' ? 10 : 1) * (1 - (row.inbound.successRate ?? 0.99)) + row.inbound.failed });
    }
    const plain = plaintext(figures);
    if (plain.length > 0) {
      const down = plain.filter((e) => e.secured === 'agent-down').length;
      out.push({ state: 'warn', subject: plural(plain.length, 'edge'), text: `${plain.length === 1 ? 'is' : 'are'} without mTLS${down ? `, ${down} because an agent was away` : ''}`, path: '/security', weight: 10 });
    }
  }
  for (const r of resources) {
    if (!isWorkload(r)) continue; // what is of a pod is told of its workload
    const u = r.resources;
    if (u?.oomKills) out.push({ state: 'bad', ...about(r), text: `was killed for its memory ${u.oomKills === 1 ? 'once' : `${u.oomKills} times`}`, weight: 5e5 });
    if ((u?.throttled ?? 0) > 0.2) out.push({ state: 'warn', ...about(r), text: `is held back by its processor limit ${percent(u!.throttled)} of the time`, weight: 1e4 * u!.throttled! });
    if (r.certificate) {
      const left = (Date.parse(r.certificate.expires) - now) / 1000;
      if (left < 300) out.push({ state: left < 60 ? 'bad' : 'warn', ...about(r), text: left > 0 ? `has a certificate that expires in ${span(left)} and was not renewed` : 'has a certificate that has expired', weight: 1e5 });
    }
  }
  return out.sort((a, b) => (a.state === b.state ? b.weight - a.weight : a.state === 'bad' ? -1 : 1));
}

function about(r: Resource): { subject: string; namespace: string; resource: Resource; path: string } {
  const enc = encodeURIComponent;
  const namespace = r.kind === 'namespace' ? r.name : r.namespace;
  return { subject: r.kind === 'namespace' ? r.name : `${shortKind(r.kind)}/${r.name}`, namespace, resource: r, path: r.kind === 'namespace' ? `/ns/${enc(r.name)}` : `/ns/${enc(r.namespace)}/${enc(r.kind)}/${enc(r.name)}` };
}

export const problemKey = (p: Problem): string => (p.resource ? key(p.resource) : p.subject) + p.text;
