/** The longest line that is read. A longer one is skipped and reported once. */
export const maxLine = 1 << 20;

/** Lines splits a stream of text into lines, of which it keeps one at a time. */
export class Lines {
  private rest = '';
  private skipping = false;

  constructor(private readonly line: (text: string) => void, private readonly tooLong: () => void = () => {}, private readonly limit = maxLine) {}

  push(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      const whole = this.rest + text.slice(from, at);
      if (this.skipping || whole.length > this.limit) this.skip();
      else if (whole.trim()) this.line(whole);
      this.rest = '';
      this.skipping = false;
      from = at + 1;
    }
    if (this.skipping) return;
    this.rest += text.slice(from);
    if (this.rest.length > this.limit) {
      this.skip();
      this.skipping = true;
      this.rest = '';
    }
  }
  private skip() {
    if (!this.skipping) this.tooLong();
  }
}
