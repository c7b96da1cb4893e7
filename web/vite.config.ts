import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

const here = fileURLToPath(new URL('.', import.meta.url));

/** The packages of which something is in the bundle, or in that of the worker. */
const bundled = new Set<string>();

/** Notes the packages of a bundle: those of modules of which some code is left. */
function packages(): Plugin {
  return {
    name: 'packages',
    generateBundle(_, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== 'chunk') continue;
        for (const [id, module] of Object.entries(chunk.modules)) {
          const path = id.split('node_modules/')[1];
          if (path && module.code) bundled.add(path.split('/').slice(0, path.startsWith('@') ? 2 : 1).join('/'));
        }
      }
    },
  };
}

/** The licences of what is in the bundle go with it. The SBOMs of a release name these packages. */
function licences(): Plugin {
  return {
    name: 'licences',
    generateBundle() {
      if (bundled.has('@dagrejs/dagre')) bundled.add('@dagrejs/graphlib'); // which is in its file
      const text = [...bundled].sort().map((name) => {
        const dir = `${here}node_modules/${name}/`;
        const file = readdirSync(dir).find((f) => /^licen[cs]e(\.md|\.txt)?$/i.test(f));
        if (!file) throw new Error(`${name} is in the bundle, and has no file of its licence`);
        return `${name} ${JSON.parse(readFileSync(`${dir}package.json`, 'utf8')).version}\n\n${readFileSync(dir + file, 'utf8').trim()}\n`;
      });
      this.emitFile({ type: 'asset', fileName: 'assets/licences.txt', source: text.join('\n----\n\n') });
    },
  };
}

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
  plugins: [svelte(), packages(), licences(), stamp()],
  build: {
    outDir: '../pkg/dashboard/dist',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false,
    rolldownOptions: { input: { app: fileURLToPath(new URL('index.html', import.meta.url)) }, output: names },
  },
  worker: { format: 'es', plugins: () => [packages()], rolldownOptions: { output: names } },
  server: { host: '127.0.0.1', proxy: { '/api': 'http://127.0.0.1:8084', '/about.json': 'http://127.0.0.1:8084' } },
  test: { include: ['src/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0]);
