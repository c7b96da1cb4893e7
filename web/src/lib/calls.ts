import type { Secured, Split } from './types.ts';

/** A line of a tap, as `underlane tap -o json` prints it. */
export interface TapEvent {
  source: TapPeer;
  destination: TapPeer;
  routeMeta?: Record<string, string>;
  proxyDirection?: string;
  time: string;
  origin?: string;
  tls?: Secured;
  protocol?: string;
  sni?: string;
  dnsName?: string;
  reason?: string;
  reasonText?: string;
  requestInitEvent?: { id: ID; method: string; scheme: string; authority: string; path: string; headers?: Header[]; headersCut?: boolean };
  responseInitEvent?: { id: ID; sinceRequestInit: Duration; httpStatus: number; headers?: Header[]; headersCut?: boolean };
  responseEndEvent?: {
    id: ID; sinceRequestInit: Duration; sinceResponseInit?: Duration; responseBytes?: number; requestBytes?: number; grpcStatusCode?: number; grpc?: boolean; split?: TapSplit;
    retries?: number; reset?: boolean; method?: string; authority?: string; path?: string; httpStatus?: number; success?: boolean; headers?: Header[]; trailers?: Header[]; trailersCut?: boolean;
  };
  connOpenEvent?: { id: ID; leg?: string; process?: string; split?: TapSplit };
  connCloseEvent?: { id: ID; leg?: string; legs?: { client?: TapLeg; server?: TapLeg }; event: string; duration: Duration; sentBytes?: number; receivedBytes?: number; srtt?: Duration; retransmits?: number; process?: string; split?: TapSplit };
}
type TapSplit = Record<keyof Split, Duration>;
interface TapPeer { ip: string; port: number; metadata?: Record<string, string> }
interface TapLeg { srtt?: Duration; retransmits?: number; receivedBytes?: number; sentBytes?: number; unread?: Duration }
interface ID { base: number; stream: number }
interface Duration { seconds?: number; nanos?: number }
/** A header field. Its value is text, or in base64 where it is not UTF-8. */
export interface Header { name: string; valueStr?: string; valueBin?: string; value?: string }

/** The fields of a head, or trailers. cut: there were more, or a value was longer. */
export interface Fields { list: Header[]; cut: boolean }

export interface End { kind: string; namespace: string; name: string; pod?: string; address: string; node?: string; identity?: string }

/** One request, or one connection. */
export interface Call {
  id: number; // of this log
  kind: 'request' | 'connection';
  time: number;
  source: End;
  destination: End;
  service?: string;
  route?: string;
  protocol: string;
  secured: Secured;
  method: string;
  authority: string;
  /** What the client's resolver has said of a destination outside for which nothing else has a name. */
  dnsName?: string;
  path: string;
  done: boolean;
  /** The stream broke off before its end. */
  unseen?: boolean;
  ok: boolean;
  result: string; // 200, grpc 2, close
  reason?: string;
  reasonText?: string;
  ms?: number;
  firstByteMs?: number;
  split?: Partial<Split>; // of a connection: until it was open, or had failed
  requestBytes?: number;
  responseBytes?: number;
  retries?: number;
  retransmits?: number;
  srtt?: number;
  /** What the kernel knew of the agent's connections with the client and with the server. */
  legs?: Leg[];
  process?: string;
  origin?: string;
  requestHeaders: Fields;
  responseHeaders: Fields;
  trailers: Fields;
}

export interface Leg { side: string; srtt: number | undefined; retransmits: number; unread: number }

export interface Group {
  key: string;
  call: Call; // the last one
  count: number;
  failed: number;
  best: number;
  worst: number;
  last: number;
}

const none: Fields = { list: [], cut: false };
const fields = (list: Header[] | null | undefined, cut: boolean | undefined): Fields => (list?.length || cut ? { list: list ?? [], cut: cut ?? false } : none);

/** The longest binary value that is written out, in bytes. */
const written = 48;

/** A header's value as text; a binary one as its bytes. */
export function headerText(h: Header): { text: string; binary: boolean } {
  if (h.valueBin === undefined) return { text: h.valueStr ?? h.value ?? '', binary: false };
  let bytes: string;
  try {
    bytes = atob(h.valueBin);
  } catch {
    return { text: h.valueBin, binary: true };
  }
  const hex = [...bytes.slice(0, written)].map((c) => c.charCodeAt(0).toString(16).padStart(2, '0')).join(' ');
  return { text: bytes.length > written ? `${hex} … (${bytes.length} bytes)` : hex, binary: true };
}

const ms = (d: Duration | undefined): number | undefined => (d ? (d.seconds ?? 0) * 1000 + (d.nanos ?? 0) / 1e6 : undefined);
const parts = (split: TapSplit): Partial<Split> => Object.fromEntries(Object.entries(split).map(([part, d]) => [part, ms(d) ?? 0]));
const ownerKinds = ['deployment', 'statefulset', 'daemonset', 'cronjob', 'job', 'replicaset'];

function end(p: TapPeer): End {
  const m = p.metadata ?? {};
  const address = p.ip.includes(':') ? `[${p.ip}]:${p.port}` : `${p.ip}:${p.port}`;
  const kind = ownerKinds.find((k) => m[k] !== undefined);
  // A pod has its node's name, too. What has nothing else is the node itself.
  const other = m.pod ? 'pod' : m.node_name ? 'node' : 'external';
  const out: End = { kind: kind ?? other, namespace: m.namespace ?? '', name: (kind ? m[kind] : other === 'node' ? m.node_name : m.pod) ?? address, address };
  if (m.pod) out.pod = m.pod;
  if (m.node_name) out.node = m.node_name;
  if (m.identity) out.identity = m.identity;
  return out;
}

/** The destination gets the name from DNS, with its port: as everywhere, that tells it from what the client has written. */
function resolved(call: Call, e: TapEvent) {
  call.dnsName = e.dnsName!;
  if (call.destination.kind === 'external') call.destination.name = `${e.dnsName}:${e.destination.port}`;
}

const grpcNames = ['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNAUTHENTICATED'];

/** Log joins the events of a tap to calls. It keeps the last `limit` of them, and as many groups. */
export class Log {
  calls: Call[] = []; // the newest last
  groups = new Map<string, Group>();
  lost = 0;
  seen = 0;
  groupsFull = false;
  private readonly open = new Map<string, Call>();
  private next = 1;

  constructor(readonly limit = 1000) {}

  clear(): void {
    this.calls = [];
    this.groups.clear();
    this.open.clear();
    this.lost = this.seen = 0;
    this.groupsFull = false;
  }

  /** The stream has broken off: what was under way will not be seen to end. */
  lose(): void {
    for (const call of this.open.values()) call.unseen = true;
    this.open.clear();
  }

  push(e: TapEvent): void {
    const part = e.requestInitEvent ?? e.responseInitEvent ?? e.responseEndEvent ?? e.connOpenEvent ?? e.connCloseEvent;
    if (!part || !e.source || !e.destination) return;
    // The agent's own connections, which carry requests, are no calls.
    if (e.connOpenEvent?.leg || e.connCloseEvent?.leg) return;
    const id = `${e.proxyDirection}|${e.source.ip}:${e.source.port}|${part.id?.base}.${part.id?.stream}`;
    let call = this.open.get(id);
    if (!call) {
      call = this.start(e);
      if (!e.responseEndEvent && !e.connCloseEvent) this.remember(id, call);
    }
    if (e.dnsName) resolved(call, e);
    if (e.requestInitEvent) {
      const r = e.requestInitEvent;
      Object.assign(call, { method: r.method, authority: r.authority, path: r.path, requestHeaders: fields(r.headers, r.headersCut) });
    }
    if (e.responseInitEvent) {
      call.result = String(e.responseInitEvent.httpStatus);
      call.firstByteMs = ms(e.responseInitEvent.sinceRequestInit);
      call.responseHeaders = fields(e.responseInitEvent.headers, e.responseInitEvent.headersCut);
    }
    if (e.responseEndEvent) this.end(call, e, id);
    if (e.connCloseEvent) this.close(call, e, id);
  }

  private start(e: TapEvent): Call {
    const m = e.routeMeta ?? {};
    const connection = e.connOpenEvent !== undefined || e.connCloseEvent !== undefined;
    const call: Call = {
      id: this.next++, kind: connection ? 'connection' : 'request', time: Date.parse(e.time) || Date.now(),
      source: end(e.source), destination: end(e.destination), protocol: e.protocol ?? (connection ? 'tcp' : ''), secured: e.tls ?? '',
      method: '', authority: e.sni ?? '', path: '', done: false, ok: true, result: connection ? 'open' : '', requestHeaders: none, responseHeaders: none, trailers: none,
    };
    if (m.service) call.service = `${m.service}.${m.service_namespace}`;
    if (m.route) call.route = `${m.route_kind ?? ''} ${m.route_namespace}/${m.route} rule ${m.route_rule ?? ''}`.trim();
    if (e.origin) call.origin = e.origin;
    if (e.connOpenEvent?.process) call.process = e.connOpenEvent.process;
    if (e.connOpenEvent?.split) call.split = parts(e.connOpenEvent.split);
    this.seen++;
    this.calls.push(call);
    if (this.calls.length > this.limit * 1.25) this.calls.splice(0, this.calls.length - this.limit);
    return call;
  }

  private remember(id: string, call: Call) {
    // A response that never comes must not be kept for ever.
    if (this.open.size >= this.limit) this.open.delete(this.open.keys().next().value!);
    this.open.set(id, call);
  }

  private end(call: Call, e: TapEvent, id: string) {
    const r = e.responseEndEvent!;
    this.open.delete(id);
    call.done = true;
    call.ok = r.success ?? true;
    call.method ||= r.method ?? '';
    call.authority ||= r.authority ?? '';
    call.path ||= r.path ?? '';
    call.result = r.grpc ? (grpcNames[r.grpcStatusCode ?? 0] ?? `grpc ${r.grpcStatusCode}`) : String(r.httpStatus || '');
    if (r.grpc) call.protocol = 'grpc';
    if (r.reset) call.result ||= 'reset';
    const all = ms(r.sinceRequestInit) ?? 0;
    call.ms = all;
    const body = ms(r.sinceResponseInit);
    if (body !== undefined) call.firstByteMs ??= Math.max(0, all - body);
    if (r.split) call.split = parts(r.split);
    call.requestBytes = r.requestBytes ?? 0;
    call.responseBytes = r.responseBytes ?? 0;
    call.retries = r.retries ?? 0;
    if (r.headers) call.responseHeaders = fields(r.headers, false);
    call.trailers = fields(r.trailers, r.trailersCut);
    this.because(call, e);
    this.group(call);
  }

  private close(call: Call, e: TapEvent, id: string) {
    const c = e.connCloseEvent!;
    this.open.delete(id);
    call.done = true;
    call.result = c.event;
    call.ok = c.event === 'close' && !e.reason;
    call.ms = ms(c.duration);
    call.requestBytes = c.sentBytes ?? 0;
    call.responseBytes = c.receivedBytes ?? 0;
    call.srtt = ms(c.srtt);
    call.retransmits = c.retransmits ?? 0;
    const legs = Object.entries(c.legs ?? {}).map(([side, l]): Leg => ({ side, srtt: ms(l?.srtt), retransmits: l?.retransmits ?? 0, unread: ms(l?.unread) ?? 0 }));
    if (legs.length) call.legs = legs;
    if (c.process) call.process = c.process;
    if (c.split) call.split = parts(c.split);
    this.because(call, e);
    this.group(call);
  }

  private because(call: Call, e: TapEvent) {
    if (!e.reason) return;
    call.reason = e.reason;
    if (e.reasonText) call.reasonText = e.reasonText;
  }

  private group(call: Call) {
    // What follows the question mark would make a row for each call.
    const path = call.path.split('?')[0]!;
    const key = [call.source.namespace, call.source.name, call.destination.namespace, call.destination.name, call.method, path].join('\n');
    let g = this.groups.get(key);
    if (!g) {
      if (this.groups.size >= this.limit) {
        this.groupsFull = true;
        return;
      }
      this.groups.set(key, (g = { key, call, count: 0, failed: 0, best: Infinity, worst: 0, last: 0 }));
    }
    g.call = call;
    g.count++;
    if (!call.ok) g.failed++;
    g.last = call.ms ?? 0;
    g.best = Math.min(g.best, g.last);
    g.worst = Math.max(g.worst, g.last);
  }
}
