/** Text for numbers. A number that is not there is "–"; a hair's breadth of space is before units. */
export const none = '–';
const nbsp = '\u00a0';

/** Whole numbers up to 9999; else three significant digits, with k, M, G. */
export function count(n: number | undefined): string {
  if (n === undefined || Number.isNaN(n)) return none;
  if (Number.isInteger(n) && Math.abs(n) < 10_000) return String(n);
  const units = ['', 'k', 'M', 'G', 'T'];
  let i = 0;
  let x = Math.abs(n);
  while (x >= 999.5 && i < units.length - 1) {
    x /= 1000;
    i++;
  }
  return (n < 0 ? '-' : '') + significant(x, i === 0) + units[i];
}

function significant(x: number, mayBeWhole: boolean): string {
  if (x === 0) return '0';
  if (mayBeWhole && Number.isInteger(x)) return String(x);
  if (x >= 99.95) return x.toFixed(0);
  if (x >= 9.995) return x.toFixed(1);
  return x < 0.01 ? x.toPrecision(1) : x.toFixed(2);
}

/** Requests a second, in Linkerd's precision. */
export const rate = (n: number | undefined): string => (n === undefined ? none : n >= 1000 ? count(n + 1e-9) : n === 0 ? '0' : n < 0.05 ? '<0.1' : n >= 100 ? n.toFixed(0) : n.toFixed(1));

/** A share as a percentage. What is not quite all never says 100. */
export function percent(share: number | undefined): string {
  if (share === undefined || Number.isNaN(share)) return none;
  const p = share * 100;
  if (p >= 100) return `100${nbsp}%`;
  if (p > 99.99) return `>99.99${nbsp}%`;
  if (p >= 99) return `${(Math.floor(p * 100) / 100).toFixed(2)}${nbsp}%`;
  return `${p.toFixed(p >= 10 || p === 0 ? 1 : 2)}${nbsp}%`;
}

export function ms(x: number | undefined): string {
  if (x === undefined || Number.isNaN(x)) return none;
  if (x >= 60_000) return span(x / 1000);
  if (x >= 999.5) return `${significant(x / 1000, false)}${nbsp}s`;
  if (x > 0 && x < 0.0995) return `${significant(x * 1000, false)}${nbsp}µs`;
  return `${significant(x, true)}${nbsp}ms`;
}

export function bytes(n: number | undefined): string {
  if (n === undefined || Number.isNaN(n)) return none;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  let x = n;
  while (x >= 1023.5 && i < units.length - 1) {
    x /= 1024;
    i++;
  }
  return `${significant(x, i === 0)}${nbsp}${units[i]}`;
}

/** Seconds as the two largest units: 26h 3m. */
export function span(seconds: number): string {
  if (!Number.isFinite(seconds)) return none;
  const s = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
  const i = parts.findIndex(([size]) => s >= size);
  if (i < 0) return `0${nbsp}s`;
  const [size, unit] = parts[i]!;
  const next = parts[i + 1];
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  return `${Math.floor(s / size)}${unit}${rest && next ? `${nbsp}${rest}${next[1]}` : ''}`;
}

export const cores = (n: number | undefined): string => (n === undefined ? none : n >= 1 ? n.toFixed(2) : `${Math.round(n * 1000)}m`);

const pad = (n: number, width = 2) => String(n).padStart(width, '0');

/** The time of day where the browser is. */
export function clock(t: Date | string, millis = false): string {
  const d = typeof t === 'string' ? new Date(t) : t;
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}${millis ? `.${pad(d.getMilliseconds(), 3)}` : ''}`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)}${nbsp}${n === 1 ? one : many}`;
}

/**
 * Characters that turn the direction of the text after them: with them a name looks like
 * another one. No name, path or header has a use for them here, so they are shown as what
 * cannot be shown.
 */
export const straight = (text: string): string => (turning.test(text) ? text.replace(allTurning, '\ufffd') : text);
const turning = /[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/;
const allTurning = new RegExp(turning.source, 'g');

/**
 * A word for a shell. What a terminal could take for a command of its own (control characters,
 * in pasted text too) is written as an escape.
 */
export function quote(s: string): string {
  if (/^[\w@%+=:,./*-]+$/.test(s)) return s;
  if (!odd.test(s)) return `'${s.replaceAll("'", `'"'"'`)}'`;
  return `$'${s.replace(/['\\]/g, '\\$&').replace(allOdd, (c) => (c < '\x80' ? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}` : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`))}'`;
}
const odd = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069]/;
const allOdd = new RegExp(odd.source, 'g');

const short: Record<string, string> = { deployment: 'deploy', statefulset: 'sts', daemonset: 'ds', cronjob: 'cronjob', job: 'job', replicaset: 'rs', service: 'svc', namespace: 'ns', pod: 'pod', external: 'ext' };
/** kubectl's short name of a kind. */
export const shortKind = (kind: string): string => short[kind] ?? kind;
