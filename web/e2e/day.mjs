// A tab that is open for a day.
import { check, until } from './harness.mjs';

/** How much faster time passes in the page and on the server. */
const speed = 2000;

/**
 * In the page, before its scripts: the clock goes faster by so much, and so do timers, as far as
 * a machine can: none is shorter than 50 ms, and those that find out what has died are 2 s.
 * What is read of answers and of events is counted.
 */
function lapse(factor) {
  const Real = Date;
  const began = Real.now();
  const now = () => began + (Real.now() - began) * factor;
  globalThis.Date = class extends Real {
    constructor(...parts) {
      if (parts.length) super(...parts);
      else super(now());
    }
    static now() {
      return now();
    }
  };
  for (const name of ['setTimeout', 'setInterval']) {
    const real = globalThis[name];
    globalThis[name] = (f, ms = 0, ...rest) => real(f, ms >= 50_000 ? 2000 : Math.max(Math.min(ms, 50), ms / factor), ...rest);
  }
  const parse = JSON.parse;
  globalThis.answers = 0;
  JSON.parse = (...rest) => {
    globalThis.answers++;
    return parse(...rest);
  };
}

/** Of a heap snapshot these are not the page's: code that V8 compiles, Chromium's own, and what both note down. */
const notThePages = new Set(['code', 'native', 'synthetic', 'hidden', 'object shape']);

/**
 * MB of the objects, arrays, strings and closures of the page. The whole heap grows for hours by
 * 0.1 MB a round: V8 compiles further functions, which it keeps.
 */
async function objects(debug) {
  const parts = [];
  const add = (e) => parts.push(e.chunk);
  debug.on('HeapProfiler.addHeapSnapshotChunk', add);
  await debug.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  debug.off('HeapProfiler.addHeapSnapshotChunk', add);
  const { snapshot, nodes } = JSON.parse(parts.join(''));
  const { node_fields: fields, node_types: types } = snapshot.meta;
  const [type, size] = [fields.indexOf('type'), fields.indexOf('self_size')];
  let sum = 0;
  for (let i = 0; i < nodes.length; i += fields.length) if (!notThePages.has(types[0][nodes[i + type]])) sum += nodes[i + size];
  return sum / 1e6;
}

/** What somebody looks at in turn, and how many answers, or events of calls, come meanwhile at least. */
const views = [
  ['/', 'tbody a.whole', 80],
  ['/calls', 'tbody tr', 1000],
  ['/ns/emojivoto/deployment/web', '.uplot', 30],
  ['/topology?open=emojivoto', '.map .place', 30],
  ['/ns/shop', 'tbody a.whole', 20],
  ['/routes', '.rule', 15],
  ['/policy', 'td.denied', 15],
  ['/policy?ns=shop', 'td.may', 15],
  ['/security', 'tbody tr', 8],
];
const rounds = 12;

export const day = [
  {
    name: 'a tab that is open for a day keeps no more than after its first hours',
    flags: ['-speed', String(speed), '-workloads', '20'],
    limit: 1800,
    async run({ page, context }) {
      page.setDefaultTimeout(60_000);
      await page.addInitScript(lapse, speed);
      await page.goto('/');
      const debug = await context.newCDPSession(page);
      await debug.send('Performance.enable');
      /** Goes to a view as a link of the page does, without loading the page anew. */
      const go = async (path, ready) => {
        await page.evaluate((href) => {
          const link = Object.assign(document.createElement('a'), { href });
          document.body.append(link);
          link.click();
          link.remove();
        }, path);
        await page.locator(ready).first().waitFor({ state: 'attached' });
      };
      const kept = async () => {
        await go('/agents', 'tbody tr');
        for (let i = 0; i < 3; i++) await debug.send('HeapProfiler.collectGarbage');
        const metrics = Object.fromEntries((await debug.send('Performance.getMetrics')).metrics.map((m) => [m.name, m.value]));
        return { objects: await objects(debug), heap: metrics.JSHeapUsedSize / 1e6, nodes: metrics.Nodes, listeners: metrics.JSEventListeners, documents: metrics.Documents };
      };
      const seen = [];
      let all = 0;
      const clock = () => page.evaluate(() => Date.now() / 3600_000); // in hours
      const began = await clock();
      const round = async (n) => {
        for (const [path, ready, want] of views) {
          await go(path, ready);
          const before = await page.evaluate(() => globalThis.answers);
          const got = await until(async () => {
            const n = (await page.evaluate(() => globalThis.answers)) - before;
            return n >= want && n;
          }, `${want} answers for ${path} in round ${n}`, 300_000);
          all += got;
        }
        return kept();
      };
      for (let n = 1; n <= rounds || (await clock()) - began < 24; n++) {
        seen.push(await round(n));
        if (n % 3 === 0) console.log(`     round ${n}, hour ${((await clock()) - began).toFixed(0)}: ${all} answers and events, ${seen.at(-1).heap.toFixed(1)} MB`);
      }
      // The least of several rounds: what lives for a moment is not kept.
      const least = (list, what) => Math.min(...list.map((k) => k[what]));
      const [first, last] = [seen.slice(2, 5), seen.slice(-3)];
      const text = (what, digits = 0) => seen.map((k) => k[what].toFixed(digits)).join(' ');
      console.log(`     ${((await clock()) - began).toFixed(0)} hours: ${all} answers and events; heap ${text('heap', 1)} MB, of it objects ${text('objects', 2)} MB`);
      for (const [what, more] of [['objects', 0.1], ['heap', 1.5], ['nodes', 300], ['listeners', 60], ['documents', 1]]) {
        check(least(last, what) <= least(first, what) + more, `${what} of each round: ${text(what, { heap: 1, objects: 2 }[what])}: more at the end by ${(least(last, what) - least(first, what)).toFixed(2)}, want at most ${more}`);
      }
      // That a leak would be seen: of a few hundred bytes for each answer, in one round.
      await page.evaluate(() => {
        const parse = JSON.parse;
        globalThis.leak = [];
        JSON.parse = (...rest) => {
          globalThis.leak.push(new Array(60).fill(0.5));
          return parse(...rest);
        };
      });
      const leaking = await round(rounds + 1);
      check(leaking.objects > least(first, 'objects') + 0.1, `with a leak there are ${leaking.objects.toFixed(2)} MB of objects: this test would not see one`);
    },
  },
];
