import { commands } from './commands.ts';
import { straight } from './format.ts';
import { Lines } from './ndjson.ts';

export const prefix = '/api/v1alpha1';

/** A failed request: what happened, and what to do about it. */
export class ApiError extends Error {
  /** object: the name of what was not found, if one was asked for. */
  constructor(readonly code: number, readonly reason: string, message: string, readonly object = '') {
    super(message);
  }
  /** Whoever answers has no such answer at all: it is no failure. */
  get missing(): boolean {
    return this.code === 404 && this.object === '';
  }
  /** What to do, for the program (underlane, agent, bin/lab) and the scope of the page. */
  advice(about: { command: string; scope: string }): string {
    if (this.missing)
      return about.scope === 'cluster'
        ? 'The controller has no such answer: it is older than this dashboard, or a setting turns it off. Compare the versions: underlane version.'
        : 'Only the controller of a cluster has this answer: underlane dashboard shows it there.';
    switch (this.code) {
      case 0:
        return 'The program that serves this page has probably ended. Start it again; this page goes on by itself.';
      case 401:
        return 'Your credentials are not valid any more. Log in to the cluster again, then start the dashboard again.';
      case 403:
        return 'Your user may not see this. Ask for the ClusterRole underlane-tap-admin, or for a Role with this verb and resource in the group tap.underlane.io.';
      case 404:
        return `There is no ${this.object}, or not any more.`;
      case 429:
        return 'Too much was asked at once. It is asked again in a moment; a narrower namespace or a shorter time costs less.';
    }
    if (this.code >= 500) return `The mesh could not answer. See what is wrong with it: ${commands.check({ ...about, window: '' })}.`;
    return 'Change what the address of this page asks for.';
  }
}

async function failure(response: Response): Promise<ApiError> {
  let reason = response.statusText;
  let message = `${response.status} ${response.statusText}`;
  let object = '';
  try {
    const status = (await response.json()) as { reason?: string; message?: string; details?: { name?: string } };
    reason = status.reason ?? reason;
    message = status.message ?? message;
    object = status.details?.name ?? '';
  } catch {
    // The answer is no Status: its first line says enough.
  }
  return new ApiError(response.status, reason, message, object);
}

async function request(path: string, signal: AbortSignal, accept: string): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { signal, headers: { Accept: accept }, credentials: 'same-origin', redirect: 'error' });
  } catch (e) {
    if (signal.aborted) throw e;
    throw new ApiError(0, 'Unreachable', 'No answer from the address of this page.');
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/**
 * What may not be asked of all namespaces may be allowed in one: the same question, of
 * the path of its namespace.
 */
export function narrower(path: string): string | undefined {
  const [, head, what, query] = /^(.*)\/(figures|resources|routes|connections)\?(.*)$/.exec(path) ?? [];
  const q = new URLSearchParams(query);
  const namespace = q.get('namespace');
  if (head === undefined || !namespace || head.includes('/namespaces/')) return undefined;
  q.delete('namespace');
  return `${head}/namespaces/${encodeURIComponent(namespace)}/${what}${q.size ? `?${q}` : ''}`;
}

/**
 * Go writes a list without elements as null, and what has not happened as nothing. An
 * edge whose ends are not there is left out.
 */
export function whole(answer: unknown): unknown {
  if (typeof answer !== 'object' || answer === null) throw new TypeError('the answer is no object');
  const a = answer as Record<string, unknown>;
  for (const list of ['items', 'resources', 'edges', 'warnings', 'categories', 'gaps', 'servers', 'clients', 'notes']) if (a[list] === null) a[list] = [];
  if (Array.isArray(a.edges) && Array.isArray(a.resources)) {
    const ids = new Set((a.resources as { id: number }[]).map((r) => r.id));
    a.edges = (a.edges as { source: number; destination: number; total?: unknown }[]).filter((e) => ids.has(e.source) && ids.has(e.destination));
    for (const e of a.edges as { total?: unknown }[]) e.total ??= {};
  }
  if (Array.isArray(a.items)) for (const r of a.items as { rules?: unknown }[]) if (r.rules === null) r.rules = [];
  return a;
}

export async function get<T>(path: string, signal: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await request(path, signal, 'application/json');
  } catch (e) {
    const other = e instanceof ApiError && e.code === 403 ? narrower(path) : undefined;
    if (!other) throw e;
    // The first answer says best what is not allowed.
    response = await request(other, signal, 'application/json').catch((second: unknown) => {
      throw signal.aborted ? second : e;
    });
  }
  try {
    return whole(JSON.parse(straight(await response.text()))) as T;
  } catch (e) {
    if (signal.aborted) throw e;
    throw new ApiError(502, 'BadGateway', 'The answer broke off, or is not JSON.');
  }
}

/**
 * Reads a stream of JSON lines until it ends. Returns how many lines were not JSON, or longer
 * than limit. onPart is called for each part that comes, empty lines too.
 */
export async function stream(path: string, signal: AbortSignal, onLine: (value: unknown) => void, limit?: number, onPart?: () => void): Promise<number> {
  const response = await request(prefix + path, signal, 'application/json;stream=tap');
  if (!response.body) return 0;
  let bad = 0;
  const lines = new Lines(
    (text) => {
      let value: unknown;
      try {
        value = JSON.parse(straight(text));
      } catch {
        bad++;
        return;
      }
      onLine(value);
    },
    () => bad++,
    limit,
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    let part: ReadableStreamReadResult<string>;
    try {
      part = await reader.read();
    } catch (e) {
      if (signal.aborted) throw e;
      throw new ApiError(0, 'Unreachable', 'The stream broke off.');
    }
    if (part.done) return bad;
    onPart?.();
    lines.push(part.value);
  }
}
