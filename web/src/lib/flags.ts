import { quote } from './format.ts';

/**
 * The filter of live calls is what one types after `underlane tap`: a resource and
 * flags. It is read here as pkg/tap/filter and the command line read it.
 */
export interface Filter {
  kind?: string; // a key of plurals
  name?: string;
  namespace?: string;
  to?: string;
  toNamespace?: string;
  method?: string;
  scheme?: string;
  authority?: string;
  path?: string;
  selector?: string;
  maxRps?: string;
}

export const plurals: Record<string, string> = {
  deployment: 'deployments',
  statefulset: 'statefulsets',
  daemonset: 'daemonsets',
  replicaset: 'replicasets',
  job: 'jobs',
  cronjob: 'cronjobs',
  pod: 'pods',
  service: 'services',
};
const kinds: Record<string, string> = {
  deploy: 'deployment', sts: 'statefulset', ds: 'daemonset', rs: 'replicaset', job: 'job', cj: 'cronjob', cronjob: 'cronjob',
  po: 'pod', pod: 'pod', svc: 'service', ns: 'namespace', namespace: 'namespace', namespaces: 'namespace',
};
for (const [one, many] of Object.entries(plurals)) kinds[one] = kinds[many] = one;
const shorts: Record<string, string> = { deployment: 'deploy', statefulset: 'sts', daemonset: 'ds', replicaset: 'rs', service: 'svc', namespace: 'ns' };

const flags: Record<string, keyof Filter> = {
  '--namespace': 'namespace', '-n': 'namespace', '--to': 'to', '--to-namespace': 'toNamespace', '--method': 'method',
  '--scheme': 'scheme', '--authority': 'authority', '--path': 'path', '--selector': 'selector', '-l': 'selector', '--max-rps': 'maxRps',
};
export const flagNames = ['--namespace', '--to', '--to-namespace', '--method', '--path', '--authority', '--scheme', '--selector', '--max-rps'];

/** Words as a shell would split them: quotes keep spaces, and $'…' has the escapes that quote writes. */
export function words(text: string): { words: string[]; error?: string } {
  const out: string[] = [];
  let word: string | undefined;
  let open = ''; // the quote that is open; $: of $'…'
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (open === '$') {
      const code = /^\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))/i.exec(text.slice(i, i + 6));
      if (c === "'") open = '';
      else if (code) {
        word += String.fromCharCode(Number.parseInt(code[1] ?? code[2]!, 16));
        i += code[0].length - 1;
      } else word += c === '\\' && i + 1 < text.length ? text[++i]! : c;
    } else if (open) {
      if (c === open) open = '';
      else if (c === '\\' && open === '"' && i + 1 < text.length) word += text[++i]!;
      else word += c;
    } else if (c === '"' || c === "'") {
      open = c;
      word ??= '';
    } else if (c === '$' && text[i + 1] === "'") {
      open = '$';
      word ??= '';
      i++;
    } else if (/\s/.test(c)) {
      if (word !== undefined) out.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + c;
    }
  }
  if (word !== undefined) out.push(word);
  return open ? { words: out, error: `a quote (${open.replace('$', "'")}) is not closed` } : { words: out };
}

export function parse(text: string): { filter: Filter; error?: string } {
  const filter: Filter = {};
  const split = words(text);
  if (split.error) return { filter, error: split.error };
  const rest: string[] = [];
  const list = split.words;
  for (let i = 0; i < list.length; i++) {
    const word = list[i]!;
    if (!word.startsWith('-')) {
      rest.push(word);
      continue;
    }
    if (word === '-A' || word === '--all-namespaces') continue;
    const [name, inline] = word.startsWith('--') && word.includes('=') ? [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)] : [word, undefined];
    const field = flags[name];
    if (!field) return { filter, error: `there is no flag ${name}: use ${flagNames.join(', ')}` };
    const value = inline ?? list[++i];
    if (value === undefined) return { filter, error: `${name} wants a value` };
    filter[field] = value;
  }
  if (filter.maxRps !== undefined && !(Number(filter.maxRps) >= 0)) return { filter, error: `--max-rps ${filter.maxRps}: want a number of requests a second` };
  if (rest.length === 0) return { filter };
  let [kind, name] = rest[0]!.includes('/') ? [rest[0]!.slice(0, rest[0]!.indexOf('/')), rest[0]!.slice(rest[0]!.indexOf('/') + 1)] : [rest[0]!, rest[1]];
  const full = kinds[kind.toLowerCase()];
  if (!full) return { filter, error: `no kind "${kind}": use deploy, sts, ds, rs, job, cronjob, pod, ns or svc, as in deploy/web` };
  if (name === '') return { filter, error: `resource "${rest[0]}": a name must follow the slash` };
  if (rest.length > (rest[0]!.includes('/') ? 1 : 2)) return { filter, error: `"${rest.at(-1)}" is too much: one resource, then flags` };
  if (full === 'namespace') {
    if (name) filter.namespace = name;
    return { filter };
  }
  filter.kind = full;
  if (name) filter.name = name;
  if (filter.name && !filter.namespace) return { filter, error: `say the namespace of ${rest.join('/')}: --namespace NAME` };
  return { filter };
}

/** What parse reads, in the one form that the commands have. */
export function format(f: Filter): string {
  const out: string[] = [];
  if (f.kind) out.push(quote((shorts[f.kind] ?? f.kind) + (f.name ? `/${f.name}` : '')));
  else if (f.namespace) out.push(quote(`ns/${f.namespace}`));
  if (f.kind && f.namespace) out.push('-n', quote(f.namespace));
  const rest: [string, string | undefined][] = [
    ['--to', f.to], ['--to-namespace', f.toNamespace], ['--method', f.method], ['--path', f.path], ['--authority', f.authority],
    ['--scheme', f.scheme], ['--selector', f.selector], ['--max-rps', f.maxRps],
  ];
  for (const [name, value] of rest) if (value) out.push(name, quote(value));
  return out.join(' ');
}

/** The path of the stream of a filter, below the API's prefix. */
export function tapPath(f: Filter): string {
  const enc = encodeURIComponent;
  let path = '/watch/tap';
  const q = new URLSearchParams();
  if (f.namespace && f.kind && f.name) path = `/watch/namespaces/${enc(f.namespace)}/${plurals[f.kind]}/${enc(f.name)}/tap`;
  else if (f.namespace) path = `/watch/namespaces/${enc(f.namespace)}/tap`;
  if (f.kind && !f.name) q.set('kind', f.kind);
  const rest: [string, string | undefined][] = [
    ['to', f.to], ['to-namespace', f.toNamespace], ['method', f.method], ['path', f.path], ['authority', f.authority],
    ['scheme', f.scheme], ['labelSelector', f.selector], ['max-rps', f.maxRps],
  ];
  for (const [name, value] of rest) if (value) q.set(name, value);
  q.set('view', 'once');
  q.set('headers', 'if-allowed');
  return `${path}?${q}`;
}
