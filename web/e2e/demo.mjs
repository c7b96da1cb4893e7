// Runs the tests of the dashboard on the demo that runs: brings it up as `make demo` does,
// opens the address that it ends with, and ends it as Ctrl-C does. It is run as root.
// Arguments are words that the name of a test must have. SHOTS=directory keeps pictures.
import { execFile, spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { accessible, check, equal, runTests, until } from './harness.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const canary = join(root, 'test', 'demo', 'canary.yaml');
const lab = (...args) => promisify(execFile)(join(root, 'bin', 'lab'), args, { timeout: 90_000 });

/** Applies manifests, or does something else with them. */
async function manifests(text, verb = 'apply') {
  const file = join(tmpdir(), `underlane-demo-${process.pid}.yaml`);
  writeFileSync(file, text);
  try {
    await lab(verb, file);
  } finally {
    rmSync(file);
  }
}

/** Applies the canary with other weights. */
const weigh = (old, fresh) => manifests(readFileSync(canary, 'utf8').replace('weight: 90', `weight: ${old}`).replace('weight: 10', `weight: ${fresh}`));

const foods = ['Pizza', 'Taco', 'Burrito', 'Ramen', 'Sushi', 'Avocado', 'Bacon', 'Cheese', 'Cookie'];
const food = new RegExp(`Vote(${foods.join('|')})`);
const noFood = `apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-food, namespace: emojivote}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: voting}}}]
  action: DENY
  enforcementLevel: Application
  rules:
    - name: food
      authorization:
        type: Inline
        paths: [${foods.map((name) => `{type: Exact, value: /emojivote.v1.VotingService/Vote${name}}`).join(', ')}]
`;

const tests = [
  {
    name: 'the failing vote is found from the overview in three clicks',
    async run({ page, shot }) {
      await page.goto('/');
      await page.getByRole('link', { name: 'deploy/voting' }).first().click({ timeout: 40_000 }); // one
      await page.getByRole('tab', { name: 'Live calls' }).click(); // two
      const row = page.locator('tr.bad', { hasText: 'VoteDoughnut' });
      await row.waitFor({ timeout: 40_000 });
      await row.getByRole('button').click(); // three
      await page.locator('aside').getByText('UNKNOWN').first().waitFor();
      // It is the only kind of call that fails.
      await until(async () => (await page.locator('tbody tr').count()) > 8, 'ten kinds of votes were seen', 60_000);
      equal(await page.locator('tr.bad').count(), 1, 'kinds of calls that fail');
      await shot('dashboard-demo-call');
    },
  },
  {
    name: 'a pod joins the mesh while one looks',
    async run({ page, shot }) {
      await page.goto('/?w=1m');
      const row = page.locator('tbody tr', { has: page.getByRole('link', { name: 'default', exact: true }) });
      await row.getByText('0/1').waitFor();
      await lab('label', 'pod/outsider', 'underlane.io/mesh=enabled');
      await row.getByText('1/1').waitFor({ timeout: 60_000 });
      await page.goto('/ns/default/pod/outsider?w=1m');
      await page.getByText('spiffe://cluster.local/ns/default/sa/default').waitFor();
      await lab('exec', 'outsider', '--', 'emojivote', 'get', 'http://web.emojivote');
      const edge = page.locator('section', { has: page.getByRole('heading', { name: 'Outbound' }) }).locator('tbody tr', { hasText: 'web' });
      await edge.getByText('mTLS').first().waitFor({ timeout: 60_000 });
      await page.setViewportSize({ width: 1200, height: 600 });
      await page.waitForTimeout(300); // charts are drawn anew
      await shot('dashboard-demo-joined');
    },
  },
  {
    name: 'views of a lab are whole, or say what is not available',
    errors: /404/,
    async run({ page, shot }) {
      for (const [path, text] of [['/agents', 'node-2'], ['/topology?ns=emojivote&view=table', 'voting'], ['/security', 'Identities'], ['/connections', 'wire'], ['/calls?f=deploy%2Fweb+-n+emojivote', 'web']]) {
        await page.goto(path);
        await page.locator('main').getByText(text).first().waitFor();
        equal(await page.getByText('This view has a fault').count(), 0, `faults in ${path}`);
        equal(await page.getByText('These figures are of no real traffic').count(), 0, `"generated" in ${path}`);
        await accessible(page, path);
      }
      // The result of `agent check` on each node.
      await page.goto('/agents');
      await page.getByRole('button', { name: 'What passed too' }).click();
      for (const node of ['node-1', 'node-2']) await page.getByRole('heading', { name: `${node}: node-agent` }).waitFor({ timeout: 60_000 });
      check((await page.getByText('agent answers on').count()) >= 2, 'what is checked is not shown');
      if (process.env.SHOTS) await page.waitForTimeout(30_000); // a minute of traffic for the picture
      await page.setViewportSize({ width: 1200, height: 550 });
      await page.goto('/?w=1m');
      await page.getByRole('link', { name: 'deploy/voting' }).first().waitFor();
      equal(await page.getByText('Incomplete').count(), 0, 'signs that figures are missing');
      await page.locator('svg .area').first().waitFor();
      check((await page.getByText('the lab underlane-lab').count()) > 0, 'the page does not say what it is of');
      await page.waitForTimeout(500);
      await shot('dashboard-demo');
    },
  },
  {
    name: 'the weights of a canary shift while one looks',
    async run({ page, shot }) {
      await page.goto('/routes?ns=emojivote');
      await page.getByText('There is no route in emojivote').waitFor();
      await weigh(90, 10);
      const row = page.locator('.rule tr', { hasText: 'emoji-v2' });
      const weight = async () => Number((await row.locator('td').first().innerText()).replace(/[^\d.]/g, ''));
      await row.waitFor({ timeout: 60_000 });
      equal(await weight(), 10, 'weight of emoji-v2');
      const history = page.getByRole('img', { name: 'Weights since this view was opened' });
      for (const [old, fresh] of [[70, 30], [40, 60]]) {
        await weigh(old, fresh);
        await until(async () => (await weight()) === fresh, `the weight of emoji-v2 is ${fresh}`, 60_000);
        await history.waitFor();
      }
      await until(async () => Number((await row.locator('td').nth(1).innerText()).replace(/[^\d.]/g, '')) > 15, 'it gets more of the calls', 90_000);
      await page.setViewportSize({ width: 1440, height: 510 });
      await shot('dashboard-demo-canary');
      await lab('delete', canary);
      await page.getByText('There is no route in emojivote').waitFor({ timeout: 60_000 });
    },
  },
  {
    name: 'what a policy denies is in the matrix while one looks',
    async run({ page, shot }) {
      await page.goto('/policy?ns=emojivote&w=1m');
      const cell = (words) => page.getByRole('link', { name: new RegExp(`^web in emojivote to voting in emojivote: ${words}$`) });
      await cell('may: [\\d.k]+ allowed').waitFor();
      await page.getByText('No request was denied in this time').waitFor();
      await manifests(noFood);
      await cell('may, depending on the request: [\\d.k]+ allowed, [\\d.k]+ denied').waitFor({ timeout: 60_000 });
      const row = page.getByRole('region', { name: 'Denied' }).locator('tbody tr', { hasText: 'voting' });
      await row.getByText('policy-denied').waitFor();
      // The canary's pods are gone: they were in the mesh all the same.
      equal(await page.getByRole('link', { name: /no policy decides/ }).count(), 0, 'servers outside the mesh');
      await page.setViewportSize({ width: 1440, height: 880 });
      await page.waitForTimeout(300);
      await shot('dashboard-demo-policy');
      // The live calls are of what it denies, and of nothing else.
      await row.getByRole('link', { name: /^[\d.k]+$/ }).click();
      await page.getByRole('button', { name: 'Failed only' }).click();
      const call = page.locator('tr.bad', { hasText: 'policy-denied' }).first();
      await call.waitFor({ timeout: 60_000 });
      await page.getByRole('button', { name: 'Pause' }).click(); // rows move down
      await call.getByRole('button').click();
      await page.locator('aside .reason', { hasText: 'policy-denied' }).waitFor();
      const denied = await page.locator('tr.bad', { hasText: 'policy-denied' }).allInnerTexts();
      check(denied.length > 0 && denied.every((line) => food.test(line)), `these calls were denied: ${denied.join('; ')}`);
      await manifests(noFood, 'delete');
    },
  },
];

/** Brings the demo up. The result is its address, and how to end it. */
function start() {
  const child = spawn(join(root, 'test', 'demo', 'run.sh'), { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ONCE: '', DASHBOARD_PORT: '0' } });
  const said = [];
  const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
  const url = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      said.push(line);
      const address = /^\s*(http:\/\/\S+)$/.exec(line)?.[1];
      if (address) resolve(address);
    });
    void ended.then((how) => reject(new Error(`the demo ended (${how}) before it said an address:\n${said.join('\n')}`)));
  });
  return {
    url,
    stop: async () => {
      child.kill('SIGINT');
      return ended;
    },
  };
}

const words = process.argv.slice(2).map((w) => w.toLowerCase());
const chosen = tests.filter((t) => words.every((w) => t.name.toLowerCase().includes(w)));
const demo = start();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void demo.stop().then(() => process.exit(1)));
let failed = 1;
try {
  const url = await demo.url;
  failed = await runTests(chosen, () => url, process.env.SHOTS);
} finally {
  const how = await demo.stop();
  if (how !== 0) {
    console.log(`FAIL the demo ends with ${how} after Ctrl-C, want 0`);
    failed++;
  }
}
process.exit(failed || chosen.length === 0 ? 1 : 0);
