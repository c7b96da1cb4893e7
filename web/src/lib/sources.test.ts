import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

// Text of others (paths, names, headers) becomes text, never markup, and never an
// address that is not this page's.
const forbidden = [/\{@html/, /\.innerHTML\b/, /\.outerHTML\b/, /insertAdjacentHTML/, /document\.write/, /\beval\(/, /new Function\(/, /javascript:/, /\bsrcdoc\b/, /<[a-z][^>]*\sstyle="[^"{]*"/];

test('no source makes markup of text', () => {
  const dir = fileURLToPath(new URL('..', import.meta.url));
  const files = readdirSync(dir, { recursive: true }).map(String).filter((f) => /\.(svelte|ts)$/.test(f) && !f.endsWith('.test.ts'));
  expect(files.length).toBeGreaterThan(30);
  for (const f of files) {
    const text = readFileSync(dir + f, 'utf8');
    for (const bad of forbidden) expect(bad.test(text) ? `${f} has ${bad}` : '').toBe('');
  }
});
