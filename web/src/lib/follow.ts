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

/**
 * How many questions are streamed at the same time. A browser opens six connections to one
 * address, for all of its tabs together: the other three are for live calls and for what is
 * asked again and again.
 */
export const most = 3;

let alone = false; // this page streams, and cannot ask the others

/**
 * Claims one of the streams that all tabs of this address may have. Returns what gives it
 * back, or undefined if there is none left: then the question is asked again and again. A
 * browser without locks between tabs has one stream in each.
 */
export async function claim(): Promise<(() => void) | undefined> {
  if (!navigator.locks) {
    if (alone) return undefined;
    alone = true;
    return () => void (alone = false);
  }
  for (let i = 0; i < most; i++) {
    const release = await lock(`underlane-stream-${i}`);
    if (release) return release;
  }
  return undefined;
}

/** Takes a lock, if it is free, until the function that it returns is called or the page ends. */
function lock(name: string): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (granted) => {
        if (granted) return new Promise<void>((release) => resolve(release));
        resolve(undefined);
        return undefined;
      })
      .catch(() => resolve(undefined));
  });
}

/** A stream says at least each 20 s that it lives. One that does not has died on the way. */
const silence = 50_000;

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
  const release = await claim();
  if (!release) return true;
  if (signal.aborted || document.visibilityState !== 'visible') {
    release();
    return true;
  }
  const own = new AbortController();
  const stop = () => own.abort();
  const seen = () => document.visibilityState === 'visible' || own.abort();
  signal.addEventListener('abort', stop);
  document.addEventListener('visibilitychange', seen);
  addEventListener('offline', stop);
  let watchdog = setTimeout(stop, silence);
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
      () => {
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, silence);
      },
    );
    return bad === 0;
  } catch (e) {
    // What has refused it will refuse it again; a connection that broke off may be there again.
    return own.signal.aborted || (e instanceof ApiError && e.code === 0);
  } finally {
    release();
    clearTimeout(watchdog);
    signal.removeEventListener('abort', stop);
    document.removeEventListener('visibilitychange', seen);
    removeEventListener('offline', stop);
  }
}
