import { clock, span } from './format.ts';
import type { Figures } from './types.ts';

/** A time of which something is not known, in seconds. nodes: whose agents were not heard; none: nothing is known. */
export interface Hole {
  from: number;
  to: number;
  nodes: string[];
}

type Timed = Pick<Figures, 'start' | 'end' | 'stepSeconds' | 'gaps'>;

/** The gaps of an answer that lie in its time. A gap without two moments is left out. */
export function holes(f: Timed | undefined): Hole[] {
  if (!f) return [];
  const [start, end] = [Date.parse(f.start) / 1000, Date.parse(f.end) / 1000];
  return (f.gaps ?? [])
    .map((g) => ({ from: Math.max(start, Date.parse(g.start) / 1000), to: Math.min(end, Date.parse(g.end) / 1000), nodes: g.nodes ?? [] }))
    .filter((h) => h.to > h.from);
}

/** Is nothing known of a point? A point that is known in part has a value, which may be too low. */
export function unknown(f: Timed | undefined, point: number): boolean {
  const step = f?.stepSeconds ?? 0;
  if (!f || step <= 0) return false;
  const from = Date.parse(f.start) / 1000 + point * step;
  let missing = 0;
  for (const h of holes(f)) if (h.nodes.length === 0) missing += Math.max(0, Math.min(h.to, from + step) - Math.max(h.from, from));
  return missing >= step - 0.001;
}

/** What a hole is called where it is drawn, or pointed at. */
export function nameOf(h: Hole): string {
  const time = `${clock(new Date(h.from * 1000)).slice(0, 5)} to ${clock(new Date(h.to * 1000)).slice(0, 5)}`;
  if (h.nodes.length === 0) return `not known: ${time}`;
  const some = h.nodes.slice(0, 3).join(', ');
  return `without ${h.nodes.length > 3 ? `${some} and ${h.nodes.length - 3} more` : some}: ${time}`;
}

/** How much of the time is not known, or known in part, in words; '' if all of it is known. */
export function summary(f: Timed | undefined): string {
  let [none, part] = [0, 0];
  for (const h of holes(f)) {
    if (h.nodes.length === 0) none += h.to - h.from;
    else part += h.to - h.from;
  }
  return [none > 0 ? `${span(none)} not known` : '', part > 0 ? `${span(part)} known in part` : ''].filter(Boolean).join(', ');
}
