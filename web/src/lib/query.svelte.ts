import { ApiError, get, prefix } from './api.ts';

/**
 * An answer that is kept fresh. While a new one is on its way, or fails, the last one
 * stays. A tab that nobody looks at asks nothing.
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
        if (again > 0) timer = setTimeout(next, again * 1000);
      };
      const next = () => {
        timer = undefined;
        if (document.visibilityState === 'visible') void ask();
      };
      const seen = () => {
        if (document.visibilityState === 'visible' && timer === undefined && !this.loading && pause > 0) void ask();
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
