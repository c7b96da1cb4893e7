import { router } from './router.svelte.ts';

/** The windows that one can look at: their length and the step of their points in seconds. */
export const windows = [
  { id: '1m', label: '1 minute', seconds: 60, step: 10 },
  { id: '5m', label: '5 minutes', seconds: 300, step: 10 },
  { id: '15m', label: '15 minutes', seconds: 900, step: 30 },
  { id: '1h', label: '1 hour', seconds: 3600, step: 60 },
  { id: '6h', label: '6 hours', seconds: 21600, step: 300 },
  { id: '24h', label: '24 hours', seconds: 86400, step: 900 },
];
export const standard = '5m';

class Time {
  get window() {
    return windows.find((w) => w.id === router.param('w')) ?? windows[1]!;
  }
  /** The moment that is looked at; undefined: now. */
  get at(): Date | undefined {
    return moment(router.param('at'));
  }
  /** The moment that it is compared with. */
  get versus(): Date | undefined {
    return moment(router.param('vs'));
  }
  get live(): boolean {
    return this.at === undefined;
  }
  /** Seconds between two questions while it is live: agents close a window every ten. */
  get every(): number {
    return !this.live ? 0 : this.window.seconds <= 900 ? 10 : this.window.step / 2;
  }
  /** Parameters of a question for figures. */
  params(points: boolean, at: Date | undefined = this.at): Record<string, string> {
    const out: Record<string, string> = { window: this.window.id };
    if (points) out.step = String(this.window.step);
    if (at) out.end = at.toISOString();
    return out;
  }
}

function moment(text: string): Date | undefined {
  const t = Date.parse(text);
  return text && !Number.isNaN(t) ? new Date(t) : undefined;
}

export const time = new Time();
