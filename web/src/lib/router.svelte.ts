/** The address is the state: a path, and parameters of which some go with one from view to view. */
const kept = ['w', 'at', 'vs', 'ns'];

export interface Address {
  path: string;
  params: URLSearchParams;
}

const read = (): Address => ({ path: location.pathname, params: new URLSearchParams(location.search) });

class Router {
  address = $state.raw<Address>(read());

  get path(): string {
    return this.address.path;
  }
  /** The path's parts, decoded. A part that is no valid encoding stands for itself. */
  get parts(): string[] {
    return this.path.split('/').filter(Boolean).map(decode);
  }
  param(name: string): string {
    return this.address.params.get(name) ?? '';
  }

  /** The address of a view, with what is kept. A parameter "" is left out. */
  href(path: string, params: Record<string, string | undefined> = {}): string {
    const q = new URLSearchParams();
    for (const name of kept) {
      const value = this.param(name);
      if (value) q.set(name, value);
    }
    return join(path, q, params);
  }
  /** This view with other parameters. */
  here(params: Record<string, string | undefined>): string {
    return join(this.path, new URLSearchParams(this.address.params), params);
  }
  go(href: string, replace = false): void {
    if (replace) history.replaceState(null, '', href);
    else history.pushState(null, '', href);
    this.address = read();
  }
  set(params: Record<string, string | undefined>, replace = true): void {
    const href = this.here(params);
    if (href !== location.pathname + location.search) this.go(href, replace);
  }

  /** Takes over links of this page. */
  start(): () => void {
    const pop = () => (this.address = read());
    const click = (e: MouseEvent) => {
      if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
      const link = (e.target as Element | null)?.closest?.('a');
      const href = link?.getAttribute('href');
      if (!link || !href || !href.startsWith('/') || href.startsWith('//') || link.hasAttribute('target') || link.hasAttribute('download')) return;
      e.preventDefault();
      const moved = href.split('?')[0] !== this.path;
      this.go(href);
      if (moved) scrollTo(0, 0);
    };
    addEventListener('popstate', pop);
    addEventListener('click', click);
    return () => {
      removeEventListener('popstate', pop);
      removeEventListener('click', click);
    };
  }
}

function join(path: string, q: URLSearchParams, params: Record<string, string | undefined>): string {
  for (const [name, value] of Object.entries(params)) {
    if (value) q.set(name, value);
    else q.delete(name);
  }
  const text = q.toString();
  return text ? `${path}?${text}` : path;
}

/** What encodeURIComponent made of a text; a text that it cannot have made stands for itself. */
export function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const router = new Router();

const enc = encodeURIComponent;
export const pathOf = {
  namespace: (ns: string) => `/ns/${enc(ns)}`,
  workload: (r: { kind: string; namespace: string; name: string }) => `/ns/${enc(r.namespace)}/${enc(r.kind)}/${enc(r.name)}`,
};
