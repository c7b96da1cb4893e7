import { expect, test } from 'vitest';
import { narrower } from './api.ts';

test.each([
  ['/api/v1alpha1/figures?by=workload&namespace=shop&window=5m', '/api/v1alpha1/namespaces/shop/figures?by=workload&window=5m'],
  ['/api/v1alpha1/routes?namespace=a%2Fb', '/api/v1alpha1/namespaces/a%2Fb/routes'],
  ['/api/v1alpha1/figures?by=namespace', undefined],
  ['/api/v1alpha1/figures', undefined],
  ['/api/v1alpha1/nodes?namespace=shop', undefined],
  ['/api/v1alpha1/namespaces/shop/figures?namespace=shop', undefined],
])('%s', (path, want) => expect(narrower(path)).toBe(want));
