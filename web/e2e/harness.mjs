// What the tests in Chromium have in common.
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function equal(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}
export function check(ok, what) {
  if (!ok) throw new Error(what);
}
/** Waits until f is true; its value is returned. */
export async function until(f, what, ms = 20_000) {
  for (const end = Date.now() + ms; ; ) {
    const value = await f();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s until ${what}`);
    await new Promise((r) => setTimeout(r, 100));
  }
}

/**
 * Passes the requests of page that match a pattern to f, a handler of routes. The page may give
 * a request up meanwhile, or end: then there is nobody left to answer, which is no error.
 */
export async function change(page, pattern, f) {
  await page.route(pattern, async (route) => {
    try {
      await f(route);
    } catch (e) {
      if (!page.isClosed() && !/closed|disposed|canceled|aborted|is not handled|already handled/i.test(e.message)) throw e;
    }
  });
}

/** The processor's time that the page's main thread has taken so far, in ms: a busy machine does not change it. */
export async function work(debug) {
  const { metrics } = await debug.send('Performance.getMetrics');
  const of = Object.fromEntries(metrics.map((m) => [m.name, m.value * 1000]));
  return { all: of.TaskDuration, script: of.ScriptDuration, layout: of.LayoutDuration + of.RecalcStyleDuration };
}

/** Begins to measure that. */
export async function measured(context, page) {
  const debug = await context.newCDPSession(page);
  await debug.send('Performance.enable', { timeDomain: 'threadTicks' });
  return debug;
}

/** Does a page go beyond the screen sideways? By how much. */
export const beyond = (page) => page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth));

export async function accessible(page, what) {
  // The policy of the page forbids what addScriptTag does: this goes by the debugger.
  await page.evaluate(axe);
  const result = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const found = result.violations.map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(' ')} ${n.failureSummary?.split('\n').slice(1, 2).join('')}`).join(' | ')}`);
  check(found.length === 0, `axe finds in ${what}:\n${found.join('\n')}`);
}

/** The result of a promise, or an error that says what after ms. */
function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} after ${ms / 1000} s`)), ms);
  });
  promise.catch(() => {}); // of what comes too late nobody is told
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** How long a test may take, in s, if it does not say so itself. All take much less. */
const usual = 300;

/** What a page that is too late does, in words. A page whose script does not end answers nothing. */
async function doing(page) {
  try {
    const state = await within(3000, 'no answer', page.evaluate(() => `${document.readyState}, ${document.querySelector('h1')?.textContent ?? 'without a heading'}`));
    return `the page ${page.url()} answers (${state}): the test waits`;
  } catch (e) {
    return `the page ${page.url()} does not answer (${e.message.split('\n')[0]})`;
  }
}

/**
 * Runs tests one after the other, each in a browser context of its own at the address
 * that address(test) gives, and returns how many have failed. An error in the page, or in
 * its console, fails a test too, unless it matches the test's errors. A test that is not done
 * after its limit (in s) fails, and the next ones have a browser of their own. shots is a
 * directory for pictures; without one no picture is kept.
 */
export async function runTests(tests, address, shots) {
  if (shots) mkdirSync(shots, { recursive: true });
  const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  let browser = await launch();
  let failed = 0;
  const times = [];
  try {
    for (const t of tests) {
      const limit = (t.limit ?? usual) * 1000;
      const began = Date.now();
      const took = () => ((Date.now() - began) / 1000).toFixed(1);
      // What takes long is named while it does.
      const slow = setInterval(() => console.log(`     ${took()} s: ${t.name}`), 60_000);
      const noise = []; // what no test expects
      let problem;
      let page;
      let stuck = false;
      try {
        await within(limit, 'it is not done', (async () => {
          const url = await address(t);
          const context = await browser.newContext({ baseURL: url, viewport: { width: 1440, height: 900 }, ...(t.context ?? {}) });
          await context.grantPermissions(['clipboard-read', 'clipboard-write']);
          page = await context.newPage();
          page.setDefaultTimeout(20_000);
          page.on('pageerror', (e) => noise.push(`error in the page: ${e.message}`));
          page.on('console', (m) => {
            if (m.type() === 'error' && !t.errors?.test(m.text())) noise.push(`console: ${m.text()} ${m.location().url}`);
          });
          await t.run({ page, context, url, shot: (name) => (shots ? page.screenshot({ path: join(shots, `${name}.png`) }) : undefined) });
        })());
        if (noise.length) problem = noise.join('\n');
      } catch (e) {
        stuck = Date.now() - began >= limit;
        problem = [e.message, ...(stuck && page ? [await doing(page)] : []), ...noise].join('\n');
        if (shots && page && !stuck) await page.screenshot({ path: join(shots, `failed-${t.name.replaceAll(/\W+/g, '-')}.png`) }).catch(() => {});
      }
      clearInterval(slow);
      try {
        if (stuck) throw new Error('what is stuck does not close');
        await within(30_000, 'it is not closed', (async () => {
          await page?.unrouteAll({ behavior: 'ignoreErrors' }).catch(() => {});
          await page?.context().close();
        })());
      } catch (e) {
        if (!stuck) problem = [problem, `its pages: ${e.message}`].filter(Boolean).join('\n');
        await within(10_000, 'the browser is not closed', browser.close()).catch(() => {});
        browser = await launch();
      }
      if (problem) failed++;
      times.push([Number(took()), t.name]);
      console.log(`${problem ? 'FAIL' : 'ok  '} ${t.name} (${took()} s)`);
      if (problem) console.log(problem.replaceAll(/^/gm, '     '));
    }
  } finally {
    await within(10_000, 'the browser is not closed', browser.close()).catch((e) => console.log(`     ${e.message}`));
  }
  const all = times.reduce((n, [s]) => n + s, 0);
  console.log(`${tests.length - failed} passed, ${failed} failed in ${all.toFixed(0)} s${times.length > 3 ? `; longest: ${times.sort((a, b) => b[0] - a[0]).slice(0, 3).map(([s, name]) => `${name} (${s} s)`).join(', ')}` : ''}`);
  return failed;
}
