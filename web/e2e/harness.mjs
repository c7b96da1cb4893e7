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

/**
 * Runs tests one after the other, each in a browser context of its own at the address
 * that address(test) gives, and returns how many have failed. An error in the page, or in
 * its console, fails a test too, unless it matches the test's errors. shots is a
 * directory for pictures; without one no picture is kept.
 */
export async function runTests(tests, address, shots) {
  if (shots) mkdirSync(shots, { recursive: true });
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  let failed = 0;
  try {
    for (const t of tests) {
      const url = await address(t);
      const context = await browser.newContext({ baseURL: url, viewport: { width: 1440, height: 900 }, ...(t.context ?? {}) });
      await context.grantPermissions(['clipboard-read', 'clipboard-write']);
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      const noise = []; // what no test expects
      page.on('pageerror', (e) => noise.push(`error in the page: ${e.message}`));
      page.on('console', (m) => {
        if (m.type() === 'error' && !t.errors?.test(m.text())) noise.push(`console: ${m.text()} ${m.location().url}`);
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
      await page.unrouteAll({ behavior: 'ignoreErrors' }).catch(() => {});
      await context.close();
      if (problem) failed++;
      console.log(`${problem ? 'FAIL' : 'ok  '} ${t.name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
      if (problem) console.log(problem.replaceAll(/^/gm, '     '));
    }
  } finally {
    await browser.close();
  }
  console.log(`${tests.length - failed} passed, ${failed} failed`);
  return failed;
}
