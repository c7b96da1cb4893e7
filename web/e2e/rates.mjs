// Rates are of the time that is known.
import { check, until } from './harness.mjs';

const number = (text) => Number(/[\d.]+/.exec(text)?.[0] ?? NaN);

export const rates = [
  {
    name: 'rates are of the time that agents remember, everywhere',
    flags: ['-young', '-workloads', '10'], // the agent of voting has started 90 s ago
    async run({ page }) {
      const says = async (path, find) => {
        await page.goto(path);
        const place = find();
        await place.first().waitFor();
        return until(async () => { const n = number(await place.first().textContent()); return n > 0 && n; }, `${path} says a rate`);
      };
      const row = (text, column) => page.locator('tbody tr', { hasText: text }).locator(`td.c-${column}`);
      const places = {
        'of a workload in its namespace': ['/ns/emojivoto', () => row('deploy/voting', 'rps')],
        'of the workload': ['/ns/emojivoto/deployment/voting', () => page.locator('.facts dl > div', { hasText: 'Requests' }).locator('dd')],
        'of an edge of it': ['/ns/emojivoto/deployment/voting', () => page.locator('section', { has: page.getByRole('heading', { name: 'Inbound' }) }).locator('td.c-rps')],
        'of its picture': ['/ns/emojivoto/deployment/voting', () => page.locator('svg[role="group"] text.label', { hasText: '/s' })],
        'in the topology': ['/topology?ns=emojivoto&view=table', () => page.locator('tbody tr', { has: page.locator('td.c-to', { hasText: 'voting' }) }).locator('td.c-rps')],
        'of what is chosen there': ['/topology?ns=emojivoto&sel=deployment%2Femojivoto%2Fvoting', () => page.getByRole('complementary').locator('tr', { hasText: 'Requests' }).locator('td').first()],
      };
      for (const [what, [path, find]] of Object.entries(places)) {
        const minute = await says(`${path}${path.includes('?') ? '&' : '?'}w=1m`, find);
        const five = await says(path, find);
        // Of the whole five minutes it would be 0.3 of it; the load itself moves by less than a half.
        check(five > 0.55 * minute && five < 1.8 * minute, `the rate ${what} is ${five} of five minutes and ${minute} of the last one: want about the same`);
      }
    },
  },
];
