import { ApiError, stream, whole } from './api.ts';

/** The longest answer that is read of a stream, in characters. */
const maxAnswer = 64 << 20;

/**
 * The path of the stream that answers a question again and again, below the API's prefix;
 * undefined: there is none. Agents remember 15 minutes, and what is past does not change.
 */
export function streamOf(path: string): string | undefined {
  const [, query] = /^\/figures\?(.*)$/.exec(path) ?? [];
  if (query === undefined) return undefined;
  const q = new URLSearchParams(query);
  if (q.has('end') || !['1m', '5m', '15m'].includes(q.get('window') ?? '')) return undefined;
  const namespace = q.get('namespace');
  if (!namespace) return `/watch/figures?${q}`;
  q.delete('namespace');
  return `/watch/namespaces/${encodeURIComponent(namespace)}/figures?${q}`;
}

let streaming = false;

/**
 * A browser opens six connections to one address, for all of its tabs. So one question of
 * a page is streamed, and the others are asked again. Returns what ends the claim.
 */
export function claim(): (() => void) | undefined {
  if (streaming) return undefined;
  streaming = true;
  return () => void (streaming = false);
}

export interface Follower<T> {
  answer(a: T): void;
  failure(e: ApiError): void;
}

/**
 * Reads the answers of a stream until it ends, signal is aborted, or the page is hidden or
 * offline.
 * Returns false if it is of no use to try again.
 */
export async function follow<T>(path: string, signal: AbortSignal, to: Follower<T>): Promise<boolean> {
  const release = claim();
  if (!release) return true;
  const own = new AbortController();
  const stop = () => own.abort();
  const seen = () => document.visibilityState === 'visible' || own.abort();
  signal.addEventListener('abort', stop);
  document.addEventListener('visibilitychange', seen);
  addEventListener('offline', stop);
  try {
    const bad = await stream(
      path,
      own.signal,
      (value) => {
        if (own.signal.aborted) return;
        const v = value as { kind?: string; code?: number; reason?: string; message?: string };
        if (v.kind === 'Figures') to.answer(whole(v) as T);
        else to.failure(new ApiError(v.code ?? 0, v.reason ?? '', v.message ?? 'The stream says something else.'));
      },
      maxAnswer,
    );
    return bad === 0;
  } catch {
    return own.signal.aborted;
  } finally {
    release();
    signal.removeEventListener('abort', stop);
    document.removeEventListener('visibilitychange', seen);
    removeEventListener('offline', stop);
  }
}
