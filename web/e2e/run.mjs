// Runs the dashboard's tests in Chromium, against generated data. Arguments are words
// that the name of a test must have. SHOTS=directory keeps pictures of the views. With SHORT
// only the tests run that CI runs: those that have `short`.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { runTests } from './harness.mjs';
import { day } from './day.mjs';
import { policy } from './policy.mjs';
import { rates } from './rates.mjs';
import { tests } from './tests.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const words = process.argv.slice(2).map((w) => w.toLowerCase());
const chosen = [...tests, ...rates, ...policy, ...day].filter((t) => (!process.env.SHORT || t.short) && words.every((w) => t.name.toLowerCase().includes(w)));

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

// Playwright ends its browsers then, but nobody else: the tests would go on with new ones.
process.once('SIGTERM', () => {
  for (const s of servers.values()) s.stop();
  process.exit(143);
});

let failed;
try {
  failed = await runTests(chosen, (t) => address(t.flags ?? ['-hostile']), process.env.SHOTS);
} finally {
  for (const s of servers.values()) s.stop();
}
process.exit(failed || chosen.length === 0 ? 1 : 0);
