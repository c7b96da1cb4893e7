import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { claim, follow, most, streamOf } from './follow.ts';

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

/** Locks between the tabs of a browser. */
const held = new Set<string>();
const locks = {
  async request(name: string, _: object, use: (lock: object | null) => Promise<void> | undefined) {
    if (held.has(name)) return void use(null);
    held.add(name);
    await use({});
    held.delete(name);
  },
};

beforeEach(() => {
  held.clear();
  vi.stubGlobal('navigator', { locks });
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
  expect(held.size).toBe(1);
  line({ kind: 'Figures', edges: null, resources: null });
  line({ kind: 'Status', code: 503, message: 'no agent answers' });
  await vi.waitFor(() => expect(f.errors).toEqual(['no agent answers']));
  expect(f.answers).toEqual([{ kind: 'Figures', edges: [], resources: [] }]);
  send.close();
  expect(await f.done).toBe(true);
  await vi.waitFor(() => expect(held.size).toBe(0));
});

test.each([
  ['all tabs together have a few streams', { locks }, most],
  ['a browser without locks has one in each', {}, 1],
])('%s', async (_, browser, want) => {
  vi.stubGlobal('navigator', browser);
  const claims = await Promise.all(Array.from({ length: 6 }, () => claim()));
  const got = claims.filter((c) => c !== undefined);
  expect(got).toHaveLength(want);
  expect(await start().done).toBe(true); // none is left: it may be tried again
  got[0]!();
  await Promise.resolve();
  await vi.waitFor(async () => {
    const again = await claim();
    expect(again).toBeDefined();
    again!();
  });
  for (const release of got) release();
});

test('a stream that is silent has died', async () => {
  // Streams go on by turns of the event loop, which have nothing to do with the clock.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const turns = async () => {
    for (let i = 0; i < 50; i++) await new Promise((r) => setImmediate(r));
  };
  try {
    const f = start();
    await turns();
    await vi.advanceTimersByTimeAsync(30_000);
    send.enqueue(new TextEncoder().encode('\n'));
    await turns();
    await vi.advanceTimersByTimeAsync(40_000);
    expect(held.size).toBe(1);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(await f.done).toBe(true);
    expect(held.size).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test('a page that is hidden ends it', async () => {
  const f = start();
  await vi.waitFor(() => expect(held.size).toBe(1));
  await Promise.resolve();
  page.visibilityState = 'hidden';
  page.dispatchEvent(new Event('visibilitychange'));
  expect(await f.done).toBe(true);
});

test('a page that is hidden while it waits for its turn does not begin', async () => {
  const f = start();
  page.visibilityState = 'hidden';
  expect(await f.done).toBe(true);
  expect(held.size).toBe(0);
});

test('a stream that breaks off may be tried again', async () => {
  const f = start();
  await vi.waitFor(() => expect(held.size).toBe(1));
  await new Promise((r) => setTimeout(r));
  send.error(new Error('reset'));
  expect(await f.done).toBe(true);
});

test('a page that is offline ends it', async () => {
  const f = start();
  await vi.waitFor(() => expect(held.size).toBe(1));
  await Promise.resolve();
  page.dispatchEvent(new Event('offline'));
  expect(await f.done).toBe(true);
});

test('another question ends it', async () => {
  const f = start();
  await vi.waitFor(() => expect(held.size).toBe(1));
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
