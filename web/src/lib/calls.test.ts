import { expect, test } from 'vitest';
import { headerText, Log, type TapEvent } from './calls.ts';

const base = (n: number): TapEvent => ({
  source: { ip: '10.0.0.1', port: 40000 + (n % 20000), metadata: { namespace: 'shop', deployment: 'web', pod: 'web-1' } },
  destination: { ip: '10.0.0.2', port: 8080, metadata: { namespace: 'shop', deployment: 'cart', pod: 'cart-1' } },
  proxyDirection: 'OUTBOUND', time: '2026-11-29T12:00:00Z', tls: 'true', protocol: 'http2',
});
const init = (n: number, path = '/a'): TapEvent => ({ ...base(n), requestInitEvent: { id: { base: 1, stream: n }, method: 'GET', scheme: 'http', authority: 'cart', path, headers: [{ name: 'x', valueStr: 'y' }] } });
const end = (n: number, ok = true): TapEvent => ({ ...base(n), responseEndEvent: { id: { base: 1, stream: n }, sinceRequestInit: { nanos: 5e6 }, sinceResponseInit: { nanos: 1e6 }, split: { queue: {}, connect: { nanos: 2e6 }, tls: {}, firstByte: { nanos: 2e6 }, body: { nanos: 1e6 } }, httpStatus: ok ? 200 : 500, success: ok } });

test('events of a request become one call', () => {
  const log = new Log();
  log.push(init(1));
  expect(log.calls[0]).toMatchObject({ done: false, path: '/a' });
  log.push(end(1, false));
  expect(log.calls).toHaveLength(1);
  expect(log.calls[0]).toMatchObject({ done: true, ok: false, result: '500', ms: 5, firstByteMs: 4, split: { queue: 0, connect: 2, tls: 0, firstByte: 2, body: 1 }, method: 'GET', path: '/a', requestHeaders: { list: [{ name: 'x', valueStr: 'y' }], cut: false }, source: { kind: 'deployment', name: 'web', pod: 'web-1' } });
});

test('a connection of a node itself is of the node, not of something outside', () => {
  const log = new Log();
  const close = { connCloseEvent: { id: { base: 1, stream: 9 }, event: 'close', duration: { nanos: 5e6 } } };
  log.push({ ...base(9), ...close, source: { ip: '192.0.2.9', port: 41000, metadata: { node_name: 'node-1' } } });
  log.push({ ...base(10), ...close, source: { ip: '192.0.2.9', port: 41001, metadata: {} } });
  // A pod has the name of its node, too.
  log.push({ ...base(11), ...close, source: { ip: '10.0.0.3', port: 41002, metadata: { namespace: 'shop', pod: 'job', node_name: 'node-1' } } });
  expect(log.calls.map((c) => [c.source.kind, c.source.name])).toEqual([['node', 'node-1'], ['external', '192.0.2.9:41001'], ['pod', 'job']]);
});

test('a destination outside has the name that DNS has for it', () => {
  const log = new Log();
  const outside = { ...base(12), dnsName: 'db.example.com', destination: { ip: '203.0.113.7', port: 5432, metadata: {} } };
  log.push({ ...outside, connOpenEvent: { id: { base: 1, stream: 12 } } });
  expect(log.calls[0]).toMatchObject({ authority: '', dnsName: 'db.example.com', destination: { kind: 'external', name: 'db.example.com:5432', address: '203.0.113.7:5432' } });
  log.push({ ...outside, connCloseEvent: { id: { base: 1, stream: 12 }, event: 'close', duration: {} } });
  // Another address of the same name is in the same group.
  log.push({ ...outside, source: { ...outside.source, port: 41000 }, destination: { ...outside.destination, ip: '203.0.113.8' }, connCloseEvent: { id: { base: 1, stream: 13 }, event: 'close', duration: {} } });
  expect([...log.groups.values()].map((g) => [g.call.destination.name, g.count])).toEqual([['db.example.com:5432', 2]]);
  // A pod keeps its own.
  log.push({ ...base(14), dnsName: 'cart.shop', connCloseEvent: { id: { base: 1, stream: 14 }, event: 'close', duration: {} } });
  expect(log.calls.at(-1)!.destination.name).toBe('cart');
});

test('the end of a request whose beginning was lost is a call', () => {
  const log = new Log();
  log.push({ ...end(7), responseEndEvent: { ...end(7).responseEndEvent!, method: 'PUT', path: '/late' } });
  expect(log.calls[0]).toMatchObject({ method: 'PUT', path: '/late', done: true });
});

test('the same numbers of two agents are two calls', () => {
  const log = new Log();
  log.push(init(1));
  log.push({ ...init(1), source: { ...init(1).source, ip: '10.0.9.9' } });
  expect(log.calls).toHaveLength(2);
});

test('connections and gRPC', () => {
  const log = new Log();
  log.push({ ...base(3), reason: 'connect-refused', reasonText: 'nobody listens', connCloseEvent: { id: { base: 1, stream: 3 }, event: 'refused', duration: {}, sentBytes: 0 } });
  log.push({ ...end(4), responseEndEvent: { ...end(4).responseEndEvent!, grpc: true, grpcStatusCode: 2, success: false } });
  expect(log.calls[0]).toMatchObject({ kind: 'connection', ok: false, result: 'refused', reason: 'connect-refused' });
  expect(log.calls[1]).toMatchObject({ result: 'UNKNOWN', protocol: 'grpc', ok: false });
});

test('of connections of the agent itself only what a call tells is kept', () => {
  const log = new Log();
  log.push({ ...base(1), connOpenEvent: { id: { base: 1, stream: 1 }, leg: 'server' } });
  log.push({ ...base(1), connCloseEvent: { id: { base: 1, stream: 1 }, leg: 'server', event: 'close', duration: {} } });
  expect(log.calls).toHaveLength(0);
  const split = { queue: {}, connect: { seconds: 5 }, tls: { nanos: 2e6 }, firstByte: {}, body: {} };
  log.push({ ...base(2), connOpenEvent: { id: { base: 1, stream: 2 }, split } });
  expect(log.calls[0]!.split).toEqual({ queue: 0, connect: 5000, tls: 2, firstByte: 0, body: 0 });
  log.push({ ...base(2), connCloseEvent: { id: { base: 1, stream: 2 }, event: 'close', duration: {}, legs: { client: { srtt: { nanos: 3e5 }, retransmits: 2 }, server: { unread: { seconds: 1 } } } } });
  expect(log.calls[0]!.legs).toEqual([{ side: 'client', srtt: 0.3, retransmits: 2, unread: 0 }, { side: 'server', srtt: undefined, retransmits: 0, unread: 1000 }]);
});

test('groups are without queries, and count', () => {
  const log = new Log();
  for (let i = 0; i < 10; i++) {
    log.push(init(i, `/vote?choice=${i}`));
    log.push(end(i, i % 2 === 0));
  }
  expect([...log.groups.values()]).toMatchObject([{ count: 10, failed: 5, best: 5, worst: 5 }]);
});

// A tab that is open for a day, with requests that never end and a path for each call.
test('memory is bounded', () => {
  const log = new Log(100);
  for (let i = 0; i < 50_000; i++) {
    log.push(init(i, `/${i}`));
    if (i % 3 === 0) log.push(end(i));
  }
  expect(log.calls.length).toBeLessThanOrEqual(125);
  expect(log.groups.size).toBe(100);
  expect(log.groupsFull).toBe(true);
  expect((log as unknown as { open: Map<string, unknown> }).open.size).toBeLessThanOrEqual(100);
  expect(log.seen).toBe(50_000);
});

test('header fields that are binary, and those that were cut', () => {
  const log = new Log();
  log.push({ ...init(1), requestInitEvent: { ...init(1).requestInitEvent!, headers: [{ name: 'x', valueBin: '/wA8aW1nPg==' }], headersCut: true } });
  log.push({ ...base(1), responseInitEvent: { id: { base: 1, stream: 1 }, sinceRequestInit: {}, httpStatus: 200, headers: [], headersCut: true } });
  log.push({ ...end(1), responseEndEvent: { ...end(1).responseEndEvent!, trailers: [{ name: 'grpc-status-details-bin', valueBin: 'CAI=' }], trailersCut: false } });
  expect(log.calls[0]).toMatchObject({ requestHeaders: { cut: true }, responseHeaders: { list: [], cut: true }, trailers: { cut: false } });
  expect(log.calls[0]!.requestHeaders.list.map(headerText)).toEqual([{ text: 'ff 00 3c 69 6d 67 3e', binary: true }]);
  expect(log.calls[0]!.trailers.list.map(headerText)).toEqual([{ text: '08 02', binary: true }]);
});

test.each([
  [{ name: 'x', valueStr: '' }, { text: '', binary: false }],
  [{ name: 'x', value: 'v' }, { text: 'v', binary: false }],
  [{ name: 'x', valueBin: 'no base64!' }, { text: 'no base64!', binary: true }],
  [{ name: 'x', valueBin: btoa('a'.repeat(100)) }, { text: `${Array(48).fill('61').join(' ')} … (100 bytes)`, binary: true }],
])('header %j', (h, want) => expect(headerText(h)).toEqual(want));

test('a stream that breaks off leaves nothing under way', () => {
  const log = new Log();
  log.push(init(1));
  log.lose();
  expect(log.calls[0]).toMatchObject({ done: false, unseen: true });
  log.push(init(1)); // another stream has numbers of its own
  expect(log.calls).toHaveLength(2);
});

test('what is not an event is passed over', () => {
  const log = new Log();
  for (const bad of [{}, { source: {} }, { requestInitEvent: {} }, { time: 'x', connOpenEvent: {} }]) log.push(bad as unknown as TapEvent);
  expect(log.calls).toHaveLength(0);
});
