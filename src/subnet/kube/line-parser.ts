const NEWLINE = 0x0a;

/** Cuts a stream of bytes into lines, wherever its chunks begin and end. */
export class LineParser {
  private parts: Buffer[] = [];
  private length = 0;

  /** @param most bytes that a line may have */
  constructor(private readonly most: number) {}

  /** The lines that end in this chunk, without the empty ones. @throws RangeError for one that is too long. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.add(chunk.subarray(start, end));
      const line = Buffer.concat(this.parts).toString();
      if (line.trim() !== '') lines.push(line);
      this.parts = [];
      this.length = 0;
      start = end + 1;
    }
    if (start < chunk.length) this.add(chunk.subarray(start));
    return lines;
  }

  private add(part: Buffer): void {
    this.length += part.length;
    if (this.length > this.most) throw new RangeError(`a line of more than ${this.most} bytes`);
    this.parts.push(part);
  }
}
