import { expect, test } from 'vitest';
import { format, parse, tapPath, words } from './flags.ts';

test.each([
  ['', {}],
  ['deploy/web -n shop', { kind: 'deployment', name: 'web', namespace: 'shop' }],
  ['deployments web --namespace=shop', { kind: 'deployment', name: 'web', namespace: 'shop' }],
  ['sts', { kind: 'statefulset' }],
  ['ns/shop', { namespace: 'shop' }],
  ['ns shop --method POST', { namespace: 'shop', method: 'POST' }],
  ['deploy/web -n shop --to deploy/db --to-namespace data --path /a --max-rps 5 -l app=x', { kind: 'deployment', name: 'web', namespace: 'shop', to: 'deploy/db', toNamespace: 'data', path: '/a', maxRps: '5', selector: 'app=x' }],
  [`--path '/a b?"c"'`, { path: '/a b?"c"' }],
  ['-A --authority web:80', { authority: 'web:80' }],
])('%s', (text, want) => {
  const got = parse(text);
  expect(got.error).toBeUndefined();
  expect(got.filter).toEqual(want);
  // What is shown as the command is read as the same.
  expect(parse(format(got.filter)).filter).toEqual(want);
});

test.each([
  ['web', /no kind "web"/], ['deploy/ -n x', /name must follow/], ['deploy/web', /--namespace/], ['--metod GET', /no flag --metod/],
  ['--method', /wants a value/], ['deploy a b -n c', /too much/], ['--path "x', /not closed/], ['--max-rps much', /number/],
])('%s is wrong', (text, want) => expect(parse(text).error).toMatch(want));

test('quotes survive a shell', () => {
  for (const path of [`/it's`, '/$(reboot)', '/`x`', '/a;b', '/"', '/<img src=x onerror=alert(1)>', '/a\\b', '/a\nreboot\x1b[0m', "/\u202e'"]) {
    const text = format({ path });
    expect(words(text).words).toEqual(['--path', path]);
    if (/[$`;]/.test(path)) expect(text).toContain("'");
  }
});

test('paths cannot leave their place', () => {
  expect(tapPath({ kind: 'deployment', name: '../../nodes', namespace: 'a/b' })).toBe('/watch/namespaces/a%2Fb/deployments/..%2F..%2Fnodes/tap?view=once&headers=if-allowed');
  expect(tapPath({ kind: 'pod', namespace: 'a' })).toBe('/watch/namespaces/a/tap?kind=pod&view=once&headers=if-allowed');
  expect(tapPath({ path: '/x&view=both' })).toBe('/watch/tap?path=%2Fx%26view%3Dboth&view=once&headers=if-allowed');
});
