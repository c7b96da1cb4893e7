import type { About, Answered } from './types.ts';

/** What belongs to the whole page. */
class App {
  about = $state.raw<About>({ where: '', command: 'underlane', scope: 'cluster', generated: false });
  theme = $state<'system' | 'light' | 'dark'>(stored());
  /** What the last figures said of the nodes that answered. */
  answered = $state.raw<Answered>({});
  now = $state(Date.now());
  /** The same, for what need not be worked out again each second: of this ten seconds. */
  readonly soon = $derived(Math.floor(this.now / 10_000) * 10_000);
  searching = $state(false);
  helping = $state(false);

  setTheme(theme: 'system' | 'light' | 'dark') {
    this.theme = theme;
    show(theme);
    try {
      localStorage.setItem('theme', theme);
    } catch {
      // A browser may forbid it; then the choice is for this page only.
    }
  }
}

function stored(): 'system' | 'light' | 'dark' {
  let theme: string | null = null;
  try {
    theme = localStorage.getItem('theme');
  } catch {
    // The same.
  }
  return theme === 'light' || theme === 'dark' ? theme : 'system';
}

export function show(theme: string) {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export const app = new App();
