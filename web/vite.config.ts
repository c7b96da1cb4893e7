import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

/** The licences of what is in the bundle go with it. */
function licences(): Plugin {
  const of = ['svelte/LICENSE.md', 'uplot/LICENSE', '@dagrejs/dagre/LICENSE', '@dagrejs/graphlib/LICENSE'];
  return {
    name: 'licences',
    generateBundle() {
      const text = of.map((f) => `${f.slice(0, f.lastIndexOf('/'))}\n\n${readFileSync(fileURLToPath(new URL(`node_modules/${f}`, import.meta.url)), 'utf8').trim()}\n`);
      this.emitFile({ type: 'asset', fileName: 'assets/licences.txt', source: text.join('\n----\n\n') });
    },
  };
}

const here = fileURLToPath(new URL('.', import.meta.url));

/** All that the bundle is made of, but for node_modules, which the lock file says. */
function sources(): string[] {
  const inside = ['src', 'public'].flatMap((dir) => readdirSync(here + dir, { recursive: true, withFileTypes: true }).filter((f) => f.isFile() && !f.name.endsWith('.test.ts')).map((f) => `${f.parentPath.slice(here.length)}/${f.name}`));
  return [...inside, 'index.html', 'package-lock.json', 'svelte.config.js', 'vite.config.ts'].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** Says of which sources the bundle is, so that a test without Node sees whether it is of these. */
function stamp(): Plugin {
  return {
    name: 'stamp',
    generateBundle() {
      const sum = createHash('sha256');
      for (const file of sources()) {
        const data = readFileSync(here + file);
        sum.update(`${file}\n${data.length}\n`).update(data);
      }
      this.emitFile({ type: 'asset', fileName: 'sources.txt', source: `${sum.digest('hex')}\n` });
    },
  };
}

// The names have no hash: Go serves the files with tags, and a change of one file is a
// change of one file in the repository too.
const names = { entryFileNames: 'assets/[name].js', chunkFileNames: 'assets/[name].js', assetFileNames: 'assets/[name][extname]' };

export default defineConfig({
  plugins: [svelte(), licences(), stamp()],
  build: {
    outDir: '../pkg/dashboard/dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false,
    rolldownOptions: { input: { app: fileURLToPath(new URL('index.html', import.meta.url)) }, output: names },
  },
  worker: { format: 'es', rolldownOptions: { output: names } },
  server: { host: '127.0.0.1', proxy: { '/api': 'http://127.0.0.1:8084', '/about.json': 'http://127.0.0.1:8084' } },
  test: { include: ['src/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
