import { expect, test } from 'vitest';
import { narrower, whole } from './api.ts';

test.each([
  ['/api/v1alpha1/figures?by=workload&namespace=shop&window=5m', '/api/v1alpha1/namespaces/shop/figures?by=workload&window=5m'],
  ['/api/v1alpha1/routes?namespace=a%2Fb', '/api/v1alpha1/namespaces/a%2Fb/routes'],
  ['/api/v1alpha1/figures?by=namespace', undefined],
  ['/api/v1alpha1/figures', undefined],
  ['/api/v1alpha1/nodes?namespace=shop', undefined],
  ['/api/v1alpha1/namespaces/shop/figures?namespace=shop', undefined],
])('%s', (path, want) => expect(narrower(path)).toBe(want));

test('null lists are empty ones', () => {
  expect(whole({ items: null, other: null })).toEqual({ items: [], other: null });
  const ends = { source: 0, destination: 1 };
  expect(whole({ resources: [{ id: 0 }, { id: 1 }], edges: [{ ...ends, total: null }, ends, { source: 0, destination: 7 }], warnings: null })).toEqual({ resources: [{ id: 0 }, { id: 1 }], edges: [{ ...ends, total: {} }, { ...ends, total: {} }], warnings: [] });
  expect(whole({ resources: null, edges: null })).toEqual({ resources: [], edges: [] });
  expect(() => whole(null)).toThrow();
  expect(() => whole('x')).toThrow();
});
