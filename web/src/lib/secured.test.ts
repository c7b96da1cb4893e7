import { expect, test } from 'vitest';
import { inPlain } from './figures.ts';
import { advice, securedWord } from './secured.ts';
import type { Edge, Resource, Sums } from './types.ts';

const resource = (kind: string, meshed: number): Resource => ({ id: 0, kind, namespace: kind === 'external' ? '' : 'shop', name: 'x', pods: 1, meshed });
const edge = (secured: string, total: Sums = { requests: 1, success: 1 }, protocol = 'http1'): Edge => ({ source: 0, destination: 1, protocol, secured, total });

test('only what an agent has read is said to be plaintext', () => {
  expect(securedWord('no-identity', 'http1')).toBe('plaintext');
  expect(securedWord('no-identity', 'tls')).toBe('own TLS');
  expect(securedWord('no-identity', 'tcp')).toBe('no mTLS');
  expect(securedWord('agent-down', 'grpc')).toBe('plaintext: agent down');
  expect(securedWord('not-proxied', 'tcp')).toBe('not proxied');
  expect(securedWord('true', 'http2')).toBe('mTLS');
});

test('what to do depends on who the ends are', () => {
  const [out, old, pod] = [resource('external', 0), resource('deployment', 0), resource('deployment', 1)];
  expect(advice(edge('not-proxied'), out, pod)).toMatch(/kubelet/);
  expect(advice(edge('not-proxied'), resource('node', 0), pod)).toMatch(/^Nothing: .*kubelet/);
  expect(advice(edge('not-proxied'), pod, pod)).toMatch(/is not known.*restart/);
  expect(advice(edge('no-identity'), out, pod)).toMatch(/strict/);
  expect(advice(edge('no-identity'), old, pod)).toMatch(/Label/);
  expect(advice(edge('no-identity'), pod, pod)).toMatch(/restart/);
  expect(advice(edge('agent-down'), pod, pod)).toMatch(/plaintext-fallback/);
});

test('what did not come about is not in plaintext', () => {
  expect(inPlain(edge('no-identity', { tcp: { failed: 3 } }, 'tcp'))).toBe(false);
  expect(inPlain(edge('no-identity', { tcp: { failed: 3, opened: 1 } }, 'tcp'))).toBe(true);
  expect(inPlain(edge('no-identity', { requests: 4, success: 0, failures: { 'no-endpoints': 4 } }))).toBe(false);
});
