// Who was let in, and what the mesh does not secure.
import { accessible, beyond, check, equal, measured, until, work } from './harness.mjs';

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

export const policy = [
  {
    name: 'policy: what was denied is in the matrix and in the list, with its reason and its command',
    async run({ page }) {
      await page.goto('/policy?ns=shop');
      const row = page.getByRole('region', { name: 'Denied' }).locator('tbody tr', { hasText: 'nightly-report' });
      await row.getByText('policy-denied').waitFor();
      equal(await row.locator('code').innerText(), 'underlane stat deploy/payments -n shop --from cronjob/nightly-report --from-namespace legacy -t 5m -o json', 'the command');
      // All that it asked of payments was denied; of what cart was asked by erp a part.
      await page.getByRole('link', { name: /^nightly-report in legacy to payments in shop: may not: \d+ denied$/ }).waitFor();
      await page.getByRole('link', { name: /^erp in legacy to cart in shop: may, depending on the request: \d+ allowed, \d+ denied$/ }).waitFor();
      await page.getByRole('link', { name: /^gateway in shop to cart in shop: may, depending on the request: [\d.k]+ allowed$/ }).waitFor();
      // Why a connection failed is not told by figures: nobody says that it was denied.
      await page.getByRole('link', { name: /^nightly-report in legacy to orders-db in shop: may not: \d+ failed otherwise$/ }).waitFor();
      const [list, api] = await Promise.all([
        page.getByRole('region', { name: 'Denied' }).locator('tbody td.c-n').allInnerTexts(),
        page.evaluate(async () => {
          const f = await (await fetch('/api/v1alpha1/figures?by=workload&side=destination&namespace=shop&window=5m')).json();
          return f.edges.filter((e) => e.total.failures?.['policy-denied'] > 0).length;
        }),
      ]);
      equal(list.length, api, 'pairs of which something was denied');
      await row.getByRole('link', { name: /^\d+$/ }).click();
      await page.waitForURL(/\/calls\?/);
      equal(new URL(page.url()).searchParams.get('f'), 'cronjob/nightly-report -n legacy --to deploy/payments --to-namespace shop', 'the filter of the calls');
      await page.locator('tr.bad', { hasText: 'policy-denied' }).first().waitFor({ timeout: 60_000 });
    },
  },
  {
    name: 'policy: a large matrix is bounded, a server outside the mesh has no policy, and keys scroll it',
    async run({ page }) {
      await page.goto('/policy');
      await page.locator('td.denied').first().waitFor();
      check((await page.locator('.frame[role="region"] tbody tr').count()) <= 30, 'more rows than one can read');
      await page.getByText(/clients and .*servers are left out: choose a namespace/).waitFor();
      await page.goto('/policy?ns=legacy');
      await page.getByRole('link', { name: /^erp in legacy to mysql in legacy: no policy decides: \d+ came through$/ }).waitFor();
      await page.goto('/policy?ns=shop');
      await page.locator('td.denied').first().waitFor();
      await page.setViewportSize({ width: 390, height: 844 });
      const frame = page.getByRole('region', { name: 'Matrix' });
      await frame.focus();
      await page.keyboard.press('ArrowRight');
      await until(() => frame.evaluate((e) => e.scrollLeft > 0 || e.scrollWidth <= e.clientWidth), 'an arrow scrolls the matrix');
    },
  },
  {
    name: 'policy: who may and did not, who may not and did not try, by which object, with its command',
    async run({ page }) {
      await page.goto('/policy?ns=shop');
      const cell = (name) => page.getByRole('region', { name: 'Matrix' }).getByRole('link', { name });
      // payments lets in cart alone; the database an account that has no pods, and a network.
      await cell(/^cart in shop to payments in shop: may: [\d.k]+ allowed$/).waitFor();
      await cell(/^gateway in shop to payments in shop: may not: did not call$/).waitFor();
      await cell(/^no identity to payments in shop: may not: did not call$/).waitFor();
      await cell(/^from 192\.168\.7\.0\/24 to orders-db in shop: may: did not call$/).waitFor();
      await cell(/^spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backup to orders-db in shop: may: did not call$/).waitFor();
      await cell(/^[\d.k]+ other clients to payments in shop: may not: did not call$/).waitFor();
      await cell(/^cart in shop to payments/).focus();
      await page.keyboard.press('Enter');
      const aside = page.getByRole('complementary', { name: 'Who decides' });
      await aside.getByText('Decided by AuthorizationPolicy shop/payments, rule cart-charges; without a policy, the default is allow').waitFor();
      equal(await aside.locator('code').innerText(), 'underlane authz explain --from deploy/cart --from-namespace shop --to deploy/payments -n shop --port 8080', 'the command');
      check(await aside.evaluate((e) => e === document.activeElement), 'keys do not go on in what was opened');
      check(new URL(page.url()).searchParams.get('cell') === 'deployment/shop/cart>deployment/shop/payments', `the address does not say what is open: ${page.url()}`);
      await page.reload();
      await aside.getByText(/^Decided by .*rule cart-charges/).waitFor();
      await aside.getByRole('button', { name: 'Close' }).click();
      await aside.waitFor({ state: 'hidden' });
      // A client that no row has is found.
      equal(await cell(/^audit in ads to payments/).count(), 0, 'rows of a client that matters little');
      await page.getByRole('searchbox', { name: 'Find a client' }).fill('ads');
      await cell(/in ads to payments in shop: may not: did not call$/).first().waitFor();
      // Each port of each server is in the list, with what lets in whom.
      const row = page.getByRole('region', { name: 'Who may connect' }).locator('tbody tr', { hasText: 'orders-db' });
      await row.getByText(/deploy\/cart, deploy\/payments, spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backup and 1 more by AuthorizationPolicy shop\/orders-db-clients/).waitFor();
      // To the outside: which network and route lets out, and what was called.
      const left = page.getByRole('region', { name: 'To the outside' });
      await left.getByText('EgressNetwork shop/outside').waitFor();
      await left.getByText('TLSRoute shop/payments: api.payments.example, port 443').waitFor();
      await left.locator('tbody tr', { hasText: 'api.payments.example:443' }).getByText('payments').first().waitFor();
      equal(await left.locator('code').innerText(), 'underlane egress stat -n shop', 'the command');
      await page.goto('/policy?ns=emojivoto');
      await cell(/^web in emojivoto to voting in emojivoto: may, audited: [\d.k]+ allowed$/).waitFor();
      await page.getByRole('region', { name: 'Who may connect' }).getByText('audited').first().waitFor();
    },
  },
  {
    name: 'policy: a thousand workloads of one namespace are rows that one can read',
    flags: ['-per-namespace', '1000'],
    async run({ page, context }) {
      const debug = await measured(context, page);
      const before = await work(debug);
      await page.goto('/policy?ns=accounts');
      const frame = page.getByRole('region', { name: 'Matrix' });
      await frame.getByRole('link', { name: /^[\d.k]+ other clients to .*: may/ }).first().waitFor();
      const took = (await work(debug)).all - before.all;
      console.log(`     who may call 1,000 workloads takes ${took.toFixed(0)} ms of the processor`);
      check(took < 3000, `the view takes ${took.toFixed(0)} ms of the processor`);
      const [rows, columns] = [await frame.locator('tbody tr').count(), await frame.locator('thead th').count()];
      check(rows <= 31 && columns <= 30, `${rows} rows and ${columns} columns`);
      const listed = page.getByRole('region', { name: 'Who may connect' });
      await listed.locator('tbody tr').first().waitFor();
      check((await listed.locator('tbody tr').count()) < 130, 'all ports are drawn');
      await page.getByText(/more ports of servers are left out/).waitFor();
    },
  },
  {
    name: 'policy: names that are markup are text, who may as well',
    flags: ['-hostile'],
    async run({ page }) {
      const bad = 'ns"><svg onload=window.pwned=3>';
      await page.goto(`/policy?ns=${encodeURIComponent(bad)}`);
      await page.getByRole('region', { name: 'Who may connect' }).getByText('<img src=x onerror=').first().waitFor();
      const cell = page.getByRole('region', { name: 'Matrix' }).locator('tbody td a[href]').first();
      await cell.click();
      const aside = page.getByRole('complementary', { name: 'Who decides' });
      await aside.waitFor();
      check((await aside.locator('code').first().innerText()).includes(`'`), 'the command quotes no name');
      equal(await page.evaluate(() => [String(globalThis.pwned), document.querySelectorAll('main img, main script').length]), ['undefined', 0], 'markup of a name');
      equal(await beyond(page), 0, 'px beyond the screen');
      await accessible(page, 'hostile names of policies');
    },
  },
  {
    name: 'security: what is not proxied is not said to be plaintext',
    async run({ page }) {
      await page.goto('/security?ns=legacy');
      const table = page.getByRole('region', { name: 'Without mTLS' });
      const row = table.locator('tbody tr', { hasText: 'mysql' });
      await row.getByText('not proxied').waitFor();
      await row.getByText(/whether it is encrypted is not known/).waitFor();
      equal(await row.getByText('plaintext').count(), 0, '"plaintext" of what no agent has read');
      // What an agent has read as HTTP was in plaintext for it.
      await table.locator('tbody tr', { hasText: 'nightly-report' }).filter({ hasText: 'erp' }).getByText('plaintext', { exact: true }).waitFor();
      // Of connections that all failed nothing passed, in plaintext or not.
      equal(await table.locator('tbody tr', { hasText: 'orders-db' }).count(), 0, 'connections that did not come about');
    },
  },
  {
    name: 'node: the source of probes is a node, not a workload that one could open',
    async run({ page }) {
      await page.goto('/security?ns=shop');
      const row = page.getByRole('region', { name: 'From nodes themselves' }).locator('tbody tr', { hasText: 'orders-db' });
      await row.getByText(/^node\/node-\d+$/).waitFor();
      await row.getByText(/it is of the node itself.*Nothing: every policy lets in/).waitFor();
      equal(await page.getByRole('region', { name: 'Without mTLS' }).getByText(/^node\//).count(), 0, 'nodes among what the mesh could secure');
      for (const path of ['/security?ns=shop', '/policy?ns=shop', '/ns/shop/statefulset/orders-db', '/ns/shop/statefulset/orders-db?tab=connections', '/topology?ns=shop', '/topology?ns=shop&view=table']) {
        await page.goto(path);
        await page.locator('main').getByText(/node\/node-\d+/).first().waitFor();
        equal(await page.locator('a[href*="/node/"]').count(), 0, `links to a node as a workload in ${path}`);
        equal(await page.locator('main').getByText('outside/node').count(), 0, `nodes that are said to be outside in ${path}`);
      }
      await page.goto('/topology?ns=shop');
      await page.getByRole('button', { name: /^node\/node-\d+: no requests$/ }).first().click();
      const panel = page.getByRole('complementary', { name: /node\/node-\d+/ });
      await panel.waitFor();
      equal(await panel.getByRole('link').count(), 0, 'views of a node');
      await page.goto('/calls?f=sts%2Forders-db+-n+shop');
      const call = page.locator('tbody tr', { hasText: /node\/node-\d+/ }).first();
      await call.getByRole('button').click({ timeout: 60_000 });
      const aside = page.getByRole('complementary', { name: 'The call' });
      await aside.getByText(/node\/node-\d+ itself/).waitFor();
    },
  },
  ...[['', {}], [' on a phone', phone]].map(([where, context]) => ({
    name: `the sign of what is missing stands beside its text${where}`,
    context,
    async run({ page }) {
      await page.goto('/?w=1h');
      const sign = page.locator('.top .since', { hasText: 'not known' });
      await sign.waitFor();
      const [icon, text] = await sign.evaluate((e) => {
        const range = document.createRange();
        range.selectNodeContents(e.querySelector('span'));
        return [e.querySelector('svg').getBoundingClientRect(), range.getClientRects()[0]].map((r) => ({ top: r.top, bottom: r.bottom, right: r.right, left: r.left }));
      });
      check(icon.bottom > text.top && icon.top < text.bottom && icon.right <= text.left, `the sign is at ${JSON.stringify(icon)}, its text at ${JSON.stringify(text)}`);
    },
  })),
];
