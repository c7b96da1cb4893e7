import type { Arranged, Question } from './arrange.ts';
import workerURL from './layout.worker.ts?worker&url';

type Policy = { createScriptURL(url: string): string };
const policy: Policy = (globalThis as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } }).trustedTypes?.createPolicy('underlane-worker', { createScriptURL: (url) => url }) ?? { createScriptURL: (url) => url };

/** Arranges graphs in a worker. A newer question makes an older one void. */
export class Arranger {
  private readonly worker = new Worker(policy.createScriptURL(workerURL), { type: 'module' });
  private last = 0;

  constructor(onDone: (a: Arranged) => void) {
    this.worker.onmessage = (m: MessageEvent<Arranged>) => {
      if (m.data.id === this.last) onDone(m.data);
    };
  }
  ask(q: Omit<Question, 'id'>): void {
    this.worker.postMessage({ ...q, id: ++this.last });
  }
  close(): void {
    this.worker.terminate();
  }
}
