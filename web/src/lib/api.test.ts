import { expect, test } from 'vitest';
import { ApiError, narrower, whole } from './api.ts';

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

const cluster = { command: 'underlane', scope: 'cluster' };
const lab = { command: 'bin/lab', scope: 'lab' };

test.each([
  [new ApiError(404, 'NotFound', 'there is no /check'), cluster, true, /underlane version/],
  [new ApiError(404, 'NotFound', 'there is no /check'), lab, true, /Only the controller/],
  [new ApiError(404, 'NotFound', 'there is no pod of deploy/x', 'x'), cluster, false, /There is no x/],
  [new ApiError(503, 'ServiceUnavailable', 'no'), cluster, false, /underlane check/],
  [new ApiError(503, 'ServiceUnavailable', 'no'), lab, false, /bin\/lab agent node-1 -- check/],
  [new ApiError(403, 'Forbidden', 'no'), cluster, false, /underlane-tap-admin/],
])('%s of %j', (error, about, missing, advice) => {
  expect(error.missing).toBe(missing);
  expect(error.advice(about)).toMatch(advice);
});
