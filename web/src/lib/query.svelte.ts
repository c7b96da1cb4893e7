import { ApiError, get, prefix } from './api.ts';
import { follow, streamOf } from './follow.ts';

/**
 * A question that is asked more seldom, in seconds, is not worth a stream: that has an answer
 * for each step, which is 10 s for totals.
 */
const most = 20;

/**
 * An answer that is kept fresh. While a new one is on its way, or fails, the last one
 * stays. A tab that nobody looks at asks nothing. After the first answer to a question for
 * figures the next ones come by a stream, where there is one (see follow.ts).
 */
export class Query<T> {
  data = $state.raw<T | undefined>(undefined);
  error = $state.raw<ApiError | undefined>(undefined);
  loading = $state(false);
  /** When data came, in ms. */
  at = $state(0);
  private path: string | undefined;

  /**
   * path is what is asked, below the API's prefix; undefined asks nothing. every: seconds
   * between two answers; 0 asks once. It is to be made while a component is.
   */
  constructor(path: () => string | undefined, every: () => number = () => 10, base = prefix) {
    $effect(() => {
      const now = path();
      const pause = every();
      const abort = new AbortController();
      let timer: ReturnType<typeof setTimeout> | undefined;
      let following = false;
      let watch = now !== undefined && base === prefix && pause > 0 && pause <= most ? streamOf(now) : undefined;
      if (now !== this.path) {
        // Another question: its answer is not this one. The same path with other
        // parameters keeps the old figures in sight until the new ones are there.
        if (now?.split('?')[0] !== this.path?.split('?')[0]) this.data = undefined;
        this.path = now;
        this.error = undefined;
      }
      if (now === undefined) {
        this.data = undefined;
        return;
      }
      const ask = async () => {
        this.loading = true;
        let again = pause;
        try {
          this.data = await get<T>(base + now, abort.signal);
          this.error = undefined;
          this.at = Date.now();
        } catch (e) {
          if (abort.signal.aborted) return;
          this.error = e instanceof ApiError ? e : new ApiError(0, 'Error', String(e));
          again = Math.max(pause, this.error.missing ? 60 : 5);
        }
        this.loading = false;
        if (watch && !this.error && document.visibilityState === 'visible') {
          following = true;
          const began = Date.now();
          const useful = await follow<T>(watch, abort.signal, {
            answer: (a) => {
              this.data = a;
              this.error = undefined;
              this.at = Date.now();
            },
            failure: (e) => (this.error = e),
          });
          following = false;
          if (abort.signal.aborted) return;
          if (!useful) watch = undefined;
          if (Date.now() - began > pause * 1000) again = 1; // what ended it is to be seen soon
        }
        if (again > 0) timer = setTimeout(next, again * 1000);
      };
      const next = () => {
        timer = undefined;
        if (document.visibilityState === 'visible') void ask();
      };
      const seen = () => {
        if (document.visibilityState === 'visible' && timer === undefined && !this.loading && !following && pause > 0) void ask();
      };
      void ask();
      document.addEventListener('visibilitychange', seen);
      return () => {
        abort.abort();
        clearTimeout(timer);
        document.removeEventListener('visibilitychange', seen);
      };
    });
  }
}

/** A path with its parameters; those that are empty are left out. */
export function ask(path: string, params: Record<string, string | undefined> = {}): string {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value) q.set(name, value);
  const text = q.toString();
  return text ? `${path}?${text}` : path;
}
