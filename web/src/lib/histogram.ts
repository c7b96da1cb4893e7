/**
 * Latencies in the buckets of a Prometheus native histogram of schema 3, in
 * milliseconds: bucket i has what is in (2^((i-1)/8), 2^(i/8)].
 */
export class Histogram {
  readonly counts = new Map<number, number>();
  total = 0;

  add(buckets: readonly (readonly [number, number])[]): this {
    for (const [i, n] of buckets) {
      this.counts.set(i, (this.counts.get(i) ?? 0) + n);
      this.total += n;
    }
    return this;
  }

  /** The latency below which the share q is; undefined where nothing was counted. */
  quantile(q: number): number | undefined {
    if (this.total === 0) return undefined;
    const rank = Math.max(1, Math.ceil(q * this.total));
    let seen = 0;
    for (const i of [...this.counts.keys()].sort((a, b) => a - b)) {
      seen += this.counts.get(i)!;
      if (seen >= rank) return middle(i);
    }
    return undefined;
  }
}

export const upper = (i: number): number => 2 ** (i / 8);
export const middle = (i: number): number => 2 ** ((i - 0.5) / 8);
export const bucketOf = (ms: number): number => Math.ceil(8 * Math.log2(ms));
