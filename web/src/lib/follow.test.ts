import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { claim, follow, streamOf } from './follow.ts';

test.each([
  ['/figures?by=workload&window=5m&step=10', '/watch/figures?by=workload&window=5m&step=10'],
  ['/figures?by=pod&namespace=shop&window=15m', '/watch/namespaces/shop/figures?by=pod&window=15m'],
  ['/figures?window=1h&step=60', undefined],
  ['/figures?window=5m&end=2026-11-29T06:00:00Z', undefined],
  ['/figures?by=pod', undefined],
  ['/routes?window=5m', undefined],
])('%s', (path, want) => expect(streamOf(path)).toBe(want));

const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
let send: ReadableStreamDefaultController<Uint8Array>;
let status = 200;

beforeEach(() => {
  page.visibilityState = 'visible';
  status = 200;
  vi.stubGlobal('document', page);
  vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
  vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
  vi.stubGlobal('fetch', async (_: string, options: { signal: AbortSignal }) => {
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (send = c) });
    options.signal.addEventListener('abort', () => send.error(options.signal.reason));
    return new Response(status === 200 ? body : '{}', { status });
  });
});
afterEach(() => vi.unstubAllGlobals());

const line = (v: unknown) => send.enqueue(new TextEncoder().encode(`${JSON.stringify(v)}\n\n`));

function start() {
  const abort = new AbortController();
  const answers: unknown[] = [];
  const errors: string[] = [];
  const done = follow('/watch/figures', abort.signal, { answer: (a) => void answers.push(a), failure: (e) => void errors.push(e.message) });
  return { abort, answers, errors, done };
}

test('answers, failures and the end', async () => {
  const f = start();
  await vi.waitFor(() => expect(send).toBeDefined());
  expect(claim()).toBeUndefined(); // it is the one of the page
  line({ kind: 'Figures', edges: null, resources: null });
  line({ kind: 'Status', code: 503, message: 'no agent answers' });
  await vi.waitFor(() => expect(f.errors).toEqual(['no agent answers']));
  expect(f.answers).toEqual([{ kind: 'Figures', edges: [], resources: [] }]);
  send.close();
  expect(await f.done).toBe(true);
  const release = claim();
  expect(release).toBeDefined();
  expect(await start().done).toBe(true); // another one streams: it may be tried again
  release?.();
});

test('a page that is hidden ends it', async () => {
  const f = start();
  await Promise.resolve();
  page.visibilityState = 'hidden';
  page.dispatchEvent(new Event('visibilitychange'));
  expect(await f.done).toBe(true);
});

test('a page that is offline ends it', async () => {
  const f = start();
  await Promise.resolve();
  page.dispatchEvent(new Event('offline'));
  expect(await f.done).toBe(true);
});

test('another question ends it', async () => {
  const f = start();
  await Promise.resolve();
  f.abort.abort();
  expect(await f.done).toBe(true);
});

test.each([404, 403, 429, 500])('%d: the page goes on asking', async (code) => {
  status = code;
  const f = start();
  expect(await f.done).toBe(false);
  expect(f.errors).toEqual([]);
});
