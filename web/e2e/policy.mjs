// Who was let in, and what the mesh does not secure.
import { check, equal, until } from './harness.mjs';

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
      await page.getByRole('link', { name: /^nightly-report in legacy to payments in shop: \d+ denied$/ }).waitFor();
      await page.getByRole('link', { name: /^erp in legacy to cart in shop: \d+ allowed, \d+ denied$/ }).waitFor();
      await page.getByRole('link', { name: /^gateway in shop to cart in shop: [\d.k]+ allowed$/ }).waitFor();
      // Why a connection failed is not told by figures: nobody says that it was denied.
      await page.getByRole('link', { name: /^nightly-report in legacy to orders-db in shop: \d+ failed otherwise$/ }).waitFor();
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
      await page.getByRole('link', { name: /^erp in legacy to mysql in legacy: \d+ came through, no policy decides$/ }).waitFor();
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
