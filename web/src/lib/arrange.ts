import { graphlib, layout } from '@dagrejs/dagre';

/** A graph to arrange. Nodes of one parent stay together. */
export interface Question {
  id: number;
  direction: 'LR' | 'TB';
  view: { width: number; height: number }; // of where it is shown
  nodes: { id: string; width: number; height: number; parent?: string }[];
  edges: { from: string; to: string }[];
}
export interface Box { x: number; y: number; width: number; height: number }
/** Where all is: d is the path of an edge, x and y the place of what it says. */
export interface Arranged {
  id: number;
  nodes: Record<string, Box>;
  groups: Record<string, Box>;
  edges: Record<string, { d: string; x: number; y: number }>;
  width: number;
  height: number;
}

/** Above so many units layers become a strip of lines, and slow: see columns. */
const layered = 30;
/** The least scale at which one can read. */
const readable = 0.6;
const margin = 28;

export function arrange(q: Question): Arranged {
  const units = new Set(q.nodes.map((n) => n.parent ?? n.id));
  const scale = (a: Arranged) => Math.min(q.view.width / a.width, q.view.height / a.height);
  if (units.size > layered) return columns(q);
  const a = layers(q);
  if (units.size < 4 || scale(a) >= readable) return a;
  const b = columns(q);
  return scale(b) > scale(a) ? b : a;
}

interface Point { x: number; y: number }
const f = (n: number) => n.toFixed(1);

/** A curve through the middles between the points. */
function curve(points: Point[]): string {
  let d = `M${f(points[0]!.x)} ${f(points[0]!.y)}`;
  if (points.length < 3) return d + points.slice(1).map((p) => `L${f(p.x)} ${f(p.y)}`).join('');
  for (let i = 1; i < points.length - 1; i++) {
    const p = points[i]!;
    const next = points[i + 1]!;
    const end = i === points.length - 2 ? next : { x: (p.x + next.x) / 2, y: (p.y + next.y) / 2 };
    d += `Q${f(p.x)} ${f(p.y)} ${f(end.x)} ${f(end.y)}`;
  }
  return d;
}

/** Sugiyama's layers, by dagre: for graphs that one can follow line by line. */
export function layers(q: Question): Arranged {
  const g = new graphlib.Graph({ compound: true });
  g.setGraph({ rankdir: q.direction, nodesep: 20, ranksep: q.direction === 'LR' ? 34 : 26, edgesep: 14, marginx: margin, marginy: margin });
  for (const p of new Set(q.nodes.map((n) => n.parent))) if (p) g.setNode(p, {});
  for (const n of q.nodes) {
    g.setNode(n.id, { width: n.width, height: n.height });
    if (n.parent) g.setParent(n.id, n.parent);
  }
  for (const e of q.edges) if (e.from !== e.to) g.setEdge(e.from, e.to, { width: 104, height: 16, labelpos: 'c' });
  layout(g);
  const size = g.graph() as { width?: number; height?: number };
  const out: Arranged = { id: q.id, nodes: {}, groups: {}, edges: {}, width: size.width ?? 0, height: size.height ?? 0 };
  for (const id of g.nodes()) {
    const n = g.node(id) as { x: number; y: number; width: number; height: number };
    const box = { x: n.x - n.width / 2, y: n.y - n.height / 2, width: n.width, height: n.height };
    if (g.children(id).length > 0) out.groups[id] = box;
    else out.nodes[id] = box;
  }
  for (const e of g.edges()) {
    const edge = g.edge(e) as { points: Point[]; x: number; y: number };
    out.edges[`${e.v}>${e.w}`] = { d: curve(edge.points), x: edge.x, y: edge.y };
  }
  return out;
}

/**
 * Columns for graphs of many places: what calls is left of what is called, as far as
 * that goes; the columns are as full as the picture is high. Each place stays readable,
 * and lines are there to be followed one at a time.
 */
export function columns(q: Question): Arranged {
  interface Unit { id: string; width: number; height: number; inner?: Arranged; rank: number; column: number; at: number }
  const unitOf = new Map<string, string>();
  const units = new Map<string, Unit>();
  const members = new Map<string, Question['nodes']>();
  for (const n of q.nodes) {
    const id = n.parent ?? n.id;
    unitOf.set(n.id, id);
    if (n.parent) members.set(id, [...(members.get(id) ?? []), n]);
    else units.set(id, { id, width: n.width, height: n.height, rank: 0, column: 0, at: 0 });
  }
  for (const [id, list] of members) {
    const ids = new Set(list.map((n) => n.id));
    const inner = layers({ ...q, nodes: list.map(({ id, width, height }) => ({ id, width, height })), edges: q.edges.filter((e) => ids.has(e.from) && ids.has(e.to)) });
    units.set(id, { id, width: inner.width, height: inner.height + 18, inner, rank: 0, column: 0, at: 0 });
  }
  const next = new Map<string, Set<string>>();
  const beside = new Map<string, Set<string>>();
  for (const id of units.keys()) {
    next.set(id, new Set());
    beside.set(id, new Set());
  }
  for (const e of q.edges) {
    const from = unitOf.get(e.from);
    const to = unitOf.get(e.to);
    if (from === undefined || to === undefined || from === to) continue;
    next.get(from)!.add(to);
    beside.get(from)!.add(to);
    beside.get(to)!.add(from);
  }
  ranks(units, next);

  const all = [...units.values()].sort((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1));
  const gapY = 20;
  const gapX = 96;
  const area = all.reduce((n, u) => n + u.height + gapY, 0);
  const widest = Math.max(...all.map((u) => (u.inner ? 0 : u.width)), 120) + gapX;
  // rows * columns = area; columns * widest / height = aspect.
  const count = Math.max(2, Math.min(all.length, Math.round(Math.sqrt((area * Math.max(0.6, q.view.width / q.view.height)) / widest))));
  const perColumn = area / count;
  const stacks: Unit[][] = [];
  let filled = 0;
  for (const u of all) {
    const i = Math.min(count - 1, Math.floor((filled + u.height / 2) / perColumn));
    filled += u.height + gapY;
    u.column = i;
    (stacks[i] ??= []).push(u);
  }
  const list = stacks.filter(Boolean);
  // Neighbours near each other: each goes to the middle of what it speaks with.
  const place = (stack: Unit[]) => {
    let y = 0;
    const high = stack.reduce((n, u) => n + u.height + gapY, 0);
    for (const u of stack) {
      u.at = y + u.height / 2 - high / 2;
      y += u.height + gapY;
    }
  };
  list.forEach(place);
  for (let sweep = 0; sweep < 8; sweep++) {
    for (const stack of sweep % 2 ? [...list].reverse() : list) {
      const wish = new Map(stack.map((u) => {
        const others = [...beside.get(u.id)!].map((id) => units.get(id)!).filter((o) => o.column !== u.column);
        return [u, others.length ? others.reduce((n, o) => n + o.at, 0) / others.length : u.at];
      }));
      stack.sort((a, b) => wish.get(a)! - wish.get(b)! || (a.id < b.id ? -1 : 1));
      place(stack);
    }
  }

  const out: Arranged = { id: q.id, nodes: {}, groups: {}, edges: {}, width: 0, height: 0 };
  const high = Math.max(...list.map((s) => s.reduce((n, u) => n + u.height + gapY, 0)));
  let x = margin;
  for (const stack of list) {
    const wide = Math.max(...stack.map((u) => u.width));
    for (const u of stack) {
      const box = { x: x + (wide - u.width) / 2, y: margin + high / 2 + u.at - u.height / 2, width: u.width, height: u.height };
      if (!u.inner) {
        out.nodes[u.id] = box;
        continue;
      }
      out.groups[u.id] = { x: box.x + 8, y: box.y + 22, width: box.width - 16, height: box.height - 30 };
      for (const [id, b] of Object.entries(u.inner.nodes)) out.nodes[id] = { ...b, x: b.x + box.x, y: b.y + box.y + 18 };
    }
    x += wide + gapX;
  }
  out.width = x - gapX + margin;
  out.height = high + 2 * margin;
  for (const e of q.edges) {
    const a = out.nodes[e.from];
    const b = out.nodes[e.to];
    if (a && b && e.from !== e.to) out.edges[`${e.from}>${e.to}`] = line(a, b);
  }
  return out;
}

/** The longest way to each unit, with the edges that go back left out. */
function ranks(units: Map<string, { rank: number }>, next: Map<string, Set<string>>): void {
  const state = new Map<string, 1 | 2>();
  const order: string[] = [];
  const forward: [string, string][] = [];
  // Those that call and are not called first, so that going back is what goes back.
  const called = new Map<string, number>();
  for (const list of next.values()) for (const id of list) called.set(id, (called.get(id) ?? 0) + 1);
  const starts = [...units.keys()].sort((a, b) => (called.get(a) ?? 0) - (called.get(b) ?? 0) || (a < b ? -1 : 1));
  for (const start of starts) {
    if (state.has(start)) continue;
    const stack: [string, Iterator<string>][] = [[start, next.get(start)!.values()]];
    state.set(start, 1);
    while (stack.length) {
      const [id, rest] = stack.at(-1)!;
      const step = rest.next();
      if (step.done) {
        state.set(id, 2);
        order.push(id);
        stack.pop();
      } else if (state.get(step.value) !== 1) {
        forward.push([id, step.value]);
        if (!state.has(step.value)) {
          state.set(step.value, 1);
          stack.push([step.value, next.get(step.value)!.values()]);
        }
      }
    }
  }
  const after = new Map<string, string[]>();
  for (const [a, b] of forward) after.set(a, [...(after.get(a) ?? []), b]);
  for (const id of order.reverse()) for (const to of after.get(id) ?? []) units.get(to)!.rank = Math.max(units.get(to)!.rank, units.get(id)!.rank + 1);
}

function line(a: Box, b: Box): { d: string; x: number; y: number } {
  const [ay, by] = [a.y + a.height / 2, b.y + b.height / 2];
  if (b.x > a.x + a.width) {
    const [x1, x2] = [a.x + a.width, b.x];
    const h = Math.max(30, (x2 - x1) * 0.42);
    return { d: `M${f(x1)} ${f(ay)}C${f(x1 + h)} ${f(ay)} ${f(x2 - h)} ${f(by)} ${f(x2)} ${f(by)}`, x: (x1 + x2) / 2, y: (ay + by) / 2 };
  }
  if (b.x + b.width < a.x) {
    const [x1, x2] = [a.x, b.x + b.width];
    const h = Math.max(30, (x1 - x2) * 0.42);
    return { d: `M${f(x1)} ${f(ay + 8)}C${f(x1 - h)} ${f(ay + 8)} ${f(x2 + h)} ${f(by + 8)} ${f(x2)} ${f(by + 8)}`, x: (x1 + x2) / 2, y: (ay + by) / 2 + 8 };
  }
  // One over the other: around the right side.
  const [x1, x2] = [a.x + a.width, b.x + b.width];
  const out = Math.max(x1, x2) + 34;
  return { d: `M${f(x1)} ${f(ay)}C${f(out)} ${f(ay)} ${f(out)} ${f(by)} ${f(x2)} ${f(by)}`, x: out - 8, y: (ay + by) / 2 };
}
