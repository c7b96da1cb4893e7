// Runs the dashboard's tests in Chromium, against generated data. Arguments are words
// that the name of a test must have. SHOTS=directory keeps pictures of the views.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { tests } from './tests.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const words = process.argv.slice(2).map((w) => w.toLowerCase());
const chosen = tests.filter((t) => words.every((w) => t.name.toLowerCase().includes(w)));
const shots = process.env.SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

/** Starts a server of generated data; the promise is its address and how to stop it. */
function serve(...flags) {
  const child = spawn(join(root, 'bin', 'dashboard-sample'), ['-addr', '127.0.0.1:0', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`dashboard-sample ended (${code}) before it said its address`)));
    createInterface({ input: child.stdout }).once('line', (url) => resolve({ url, stop: () => child.kill('SIGINT') }));
  });
}

const servers = new Map(); // one for each set of flags
async function address(flags) {
  const key = flags.join(' ');
  if (!servers.has(key)) servers.set(key, await serve(...flags));
  return servers.get(key).url;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
let failed = 0;
try {
  for (const t of chosen) {
    const url = await address(t.flags ?? ['-hostile']);
    const context = await browser.newContext({ baseURL: url, viewport: { width: 1440, height: 900 }, ...(t.context ?? {}) });
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const noise = []; // what no test expects
    page.on('pageerror', (e) => noise.push(`error in the page: ${e.message}`));
    page.on('console', (m) => {
      if (m.type() === 'error' && !t.errors?.test(m.text())) noise.push(`console: ${m.text()}`);
    });
    const began = Date.now();
    let problem;
    try {
      await t.run({ page, context, url, shot: (name) => (shots ? page.screenshot({ path: join(shots, `${name}.png`) }) : undefined) });
      if (noise.length) problem = noise.join('\n');
    } catch (e) {
      problem = [e.message, ...noise].join('\n');
      if (shots) await page.screenshot({ path: join(shots, `failed-${t.name.replaceAll(/\W+/g, '-')}.png`) }).catch(() => {});
    }
    await context.close();
    if (problem) failed++;
    console.log(`${problem ? 'FAIL' : 'ok  '} ${t.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    if (problem) console.log(problem.replaceAll(/^/gm, '     '));
  }
} finally {
  await browser.close();
  for (const s of servers.values()) s.stop();
}
console.log(`${chosen.length - failed} passed, ${failed} failed`);
process.exit(failed || chosen.length === 0 ? 1 : 0);
