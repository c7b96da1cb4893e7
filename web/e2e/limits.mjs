// Tests the harness itself: a test that hangs is ended, named, and the next one runs.
import { createServer } from 'node:http';
import { check, equal, runTests } from './harness.mjs';

const server = createServer((_, response) => response.end('<!doctype html><title>here</title><h1>here</h1>'));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const url = `http://127.0.0.1:${server.address().port}`;
const said = [];
const log = console.log;
console.log = (...words) => said.push(words.join(' '));
let failed;
try {
  failed = await runTests([
    { name: 'a page whose script does not end', limit: 5, run: async ({ page }) => {
      await page.goto('/');
      await page.evaluate(() => { for (;;); });
    } },
    { name: 'a promise that is never kept', limit: 5, run: async ({ page }) => {
      await page.goto('/');
      await page.evaluate(() => new Promise(() => {}));
    } },
    { name: 'what comes after them', limit: 60, run: async ({ page }) => {
      await page.goto('/');
      equal(await page.locator('h1').innerText(), 'here', 'the page');
    } },
  ], () => url);
} finally {
  console.log = log;
  server.close();
}
const text = said.join('\n');
try {
  equal(failed, 2, 'tests that failed');
  for (const want of [/^FAIL a page whose script does not end/m, /does not answer/, /^FAIL a promise that is never kept/m, /answers \(complete, here\): the test waits/, /it is not done after 5 s/, /^ok {3}what comes after them/m]) check(want.test(text), `${want} is not said`);
} catch (e) {
  log(`FAIL tests that hang are ended and named: ${e.message}\n${text}`);
  process.exit(1);
}
log('ok   tests that hang are ended and named');
process.exit(0);
