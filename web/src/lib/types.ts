/** The answers of the API, tap.underlane.io/v1alpha1. Latencies are in milliseconds. */

export interface Sums {
  requests?: number;
  success?: number;
  failures?: Record<string, number>;
  retries?: number;
  latency?: Latency;
  split?: Partial<Split>;
  tcp?: TCP;
}
/** buckets: [i, count], of latencies in (2^((i-1)/8), 2^(i/8)]. */
export interface Latency {
  p50?: number;
  p95?: number;
  p99?: number;
  max?: number;
  buckets?: [number, number][];
}
export interface Split {
  queue: number;
  connect: number;
  tls: number;
  firstByte: number;
  body: number;
}
export interface TCP {
  open?: number;
  opened?: number;
  closed?: number;
  failed?: number;
  readBytes?: number;
  writeBytes?: number;
  srtt?: number;
  retransmits?: number;
}
export type Secured = 'true' | 'same-node' | 'no-identity' | 'agent-down' | 'not-proxied' | string;

export interface Resource {
  id: number;
  /** In the singular: deployment, pod, namespace, service …, or external, other or node. */
  kind: string;
  namespace: string;
  name: string;
  pods?: number;
  meshed?: number;
  ready?: number;
  identity?: string;
  nodes?: string[];
  resources?: Usage;
  mesh?: { cpu?: number; memory?: number; connections?: number; waiting?: number };
  certificate?: { identity: string; expires: string };
  /** Those that hold, by the names of their annotations; several values where pods differ. */
  settings?: { name: string; values: string[] }[];
  /** Not all agents that know of it have answered, or they are too old to. */
  partial?: boolean;
}
export interface Usage {
  cpu?: number;
  cpuLimit?: number;
  throttled?: number;
  memory?: number;
  memoryLimit?: number;
  oomKills?: number;
  psi?: { cpu?: number; memory?: number; io?: number };
}
export interface Edge {
  source: number;
  destination: number;
  service?: { namespace: string; name: string };
  protocol: string;
  secured: Secured;
  securedWhy?: string;
  partial?: boolean;
  /** Seconds that total is of, where that is less than the whole: rates are of them. */
  coveredSeconds?: number;
  total: Sums;
  points?: (Sums | null)[];
}
export interface Answered {
  nodes?: { asked: number; answered: number };
  warnings?: string[];
  /** What is not known of the time, in words. */
  missing?: string;
  /** What was before is not remembered everywhere. */
  since?: string;
}
export interface Figures extends Answered {
  start: string;
  end: string;
  stepSeconds?: number;
  resources: Resource[];
  edges: Edge[];
  /** Of a history: how much of the time something is known of, in seconds, and what is not known. */
  coveredSeconds?: number;
  gaps?: Gap[];
}
export interface Gap {
  start: string;
  end: string;
  /** Whose agents were not heard; absent: nothing is known. */
  nodes?: string[];
}
export interface List<T> extends Answered {
  items: T[];
  start?: string;
  end?: string;
}
export interface Backend {
  namespace: string;
  name: string;
  weight: number;
  /** Why it cannot be used. */
  invalid?: string;
  total?: Sums;
}
export interface Route {
  kind: string;
  namespace: string;
  name: string;
  parent: { namespace: string; name: string };
  rules: {
    name: string;
    matches?: string[];
    backends?: Backend[];
    timeouts?: string;
    retries?: string;
    total?: { effective?: Sums; actual?: Sums };
    /** As that of an edge. */
    coveredSeconds?: number;
  }[];
}
export interface Peer {
  kind: string;
  namespace: string;
  name: string;
  pod?: string;
}
export interface Connection {
  since?: string;
  source: Peer;
  destination: Peer;
  sourceAddress?: string;
  destinationAddress?: string;
  protocol: string;
  secured: Secured;
  srtt?: number;
  retransmits?: number;
  readBytes?: number;
  writeBytes?: number;
  node?: string;
  /** Of the way from the one application to the other; absent: all of it. */
  part?: 'wire' | 'application' | string;
}
export interface NodeStatus {
  version?: string;
  started?: string;
  ready?: boolean;
  notReady?: string[];
  controller?: { address?: string; connected?: boolean; lastError?: string };
  programsAttached?: boolean;
  pods?: { namespace: string; name: string; ip?: string; state: string; reason?: string; preMeshConnections?: number; identity?: string }[];
  certificates?: { identity: string; notAfter?: string; state: string; lastError?: string }[];
  kernelEvents?: { name: string; value: string | number }[];
  ringbufLost?: string | number;
  tapLost?: string | number;
  openConnections?: string | number;
  plaintextFallbacks?: string | number;
  repairs?: string | number;
}
export interface Node {
  metadata: { name: string };
  address?: string;
  status?: NodeStatus;
  error?: string;
}
export interface Check {
  categories: { name: string; checks: { description: string; result: 'ok' | 'warning' | 'error'; message?: string; hint?: string }[] }[];
}
/** Who may connect to the workloads of a namespace, whether they did or not. */
export interface Access {
  namespace: string;
  /** Whose policies decided. */
  decidedBy: string;
  warnings: string[];
  notes: string[];
  clients: AccessClient[];
  servers: AccessServer[];
  /** Absent: who answers does not know. */
  egress?: EgressNetwork[] | null;
}
/** Addresses outside, and what pods of the namespace may call there. deny: of what no route allows. */
export interface EgressNetwork {
  namespace: string;
  name: string;
  deny?: boolean;
  unknown?: string;
  networks: string[];
  routes: { kind: string; namespace: string; name: string; port?: number; hostnames?: string[] }[];
}
/** kind: of a workload, or network, identity, or stranger: what policies name beside workloads. */
export interface AccessClient {
  kind: string;
  namespace?: string;
  name?: string;
  identity?: string;
}
/** A port of a workload; 0: none is known. Without a mode no policy of the mesh holds. */
export interface AccessServer {
  namespace: string;
  kind: string;
  name: string;
  port: number;
  services?: string[];
  mode?: string;
  objects?: string[];
  uneven?: boolean;
  decisions: AccessDecision[];
}
/** rest: it is about all clients that no other decision of the server has. */
export interface AccessDecision {
  verdict: 'allow' | 'deny' | 'needs-request' | 'ask' | string;
  why?: string;
  object?: string;
  rule?: string;
  audit?: string;
  wouldDeny?: string;
  conclusion: string;
  rest?: boolean;
  clients?: number[];
}
export interface About {
  where: string;
  command: string;
  scope: string;
  generated: boolean;
  version?: string;
}
