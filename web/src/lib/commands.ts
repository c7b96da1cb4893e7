import { isReal } from './figures.ts';
import { quote, shortKind } from './format.ts';

/** The command line that says what a view shows. */
export interface Context {
  command: string; // underlane, agent
  scope: string; // cluster, node, lab
  window: string;
}

const join = (c: Context, ...words: (string | undefined)[]): string => [c.command, ...words.filter((w): w is string => !!w)].join(' ');
interface Named { kind: string; namespace: string; name: string }
const named = (r: Named): string => quote(`${shortKind(r.kind)}/${r.name}`);
const within = (ns: string): string => (ns ? `-n ${quote(ns)}` : '-A');

export const commands = {
  overview: (c: Context) => join(c, 'stat ns', `-t ${c.window}`),
  namespace: (c: Context, ns: string) => join(c, 'stat all', within(ns), `-t ${c.window}`),
  // What is opened is of workloads; the rest of namespaces.
  edges: (c: Context, kind: 'ns' | 'deploy', ns: string) => join(c, `edges ${kind}`, within(ns), c.window && `-t ${c.window}`),
  workload: (c: Context, r: { kind: string; namespace: string; name: string }) =>
    join(c, 'stat', quote(`${shortKind(r.kind)}/${r.name}`), within(r.namespace), `-t ${c.window}`),
  // As JSON it has what failed, by reason. What is outside is no resource to ask for.
  between: (c: Context, from: Named, to: Named) =>
    join(c, 'stat', named(to), within(to.namespace), ...(isReal(from) ? ['--from', named(from), '--from-namespace', quote(from.namespace)] : []), `-t ${c.window}`, '-o json'),
  // What decides about a connection of the one to the other.
  explain: (c: Context, from: Named | undefined, to: Named, port: number) =>
    join(c, 'authz explain', ...(from ? ['--from', named(from), '--from-namespace', quote(from.namespace)] : []), '--to', named(to), within(to.namespace), port ? `--port ${port}` : ''),
  // The lab has no such command.
  egress: (c: Context, ns: string) => (c.scope === 'lab' ? '' : join(c, 'egress stat', within(ns))),
  authz: (c: Context, to: Named) => join(c, 'authz', named(to), within(to.namespace), '-t 15m -o wide'),
  // The command wants a resource: ns is all there is.
  tap: (c: Context, filter: string) => join(c, 'tap', filter === '' || filter.startsWith('-') ? `ns ${filter}`.trim() : filter),
  // An agent has no command for routes.
  routes: (c: Context, ns: string) => (c.scope === 'node' ? '' : join(c, 'routes', within(ns), '-o wide')),
  pods: (c: Context, ns: string) => join(c, 'stat pod', within(ns), '-o wide', `-t ${c.window}`),
  // The lab's command has no connections of all nodes: this is one of them.
  connections: (c: Context, ns: string, r?: { kind: string; name: string }) => join(c, c.scope === 'lab' ? 'agent node-1 --' : '', 'connections', r && quote(`${shortKind(r.kind)}/${r.name}`), within(ns)),
  check: (c: Context) => (c.scope === 'lab' ? join(c, 'agent node-1 -- check') : join(c, 'check')),
  logs: (c: Context, node: string) =>
    c.scope === 'lab' ? join(c, 'logs', quote(node)) : c.scope === 'node' ? '' : `kubectl -n underlane-system logs -l app=underlane-agent --field-selector spec.nodeName=${quote(node)}`,
};
