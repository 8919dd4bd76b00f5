const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const [BRACE, END_BRACE] = [0x7b, 0x7d];
const [BRACKET, END_BRACKET] = [0x5b, 0x5d];
/** `{` of the document, `[` of its items. */
const ITEM_DEPTH = 2;

/**
 * Takes a Kubernetes list apart while it arrives, so that one item at a time is all that there is of it in memory: a
 * list of 5,000 nodes is some 50 MB of text.
 */
export class ItemParser {
  private depth = 0;
  private inString = false;
  private escaped = false;
  private inItems = false;
  /** The string at depth 1 that ended last, a key or a value, and whether it is being read. */
  private word = '';
  private readingWord = false;
  /** Where in the chunk that is being read the present part began; -1 for none. */
  private start = 0;
  private parts: Buffer[] = [];
  /** What is not an item. */
  private rest: Buffer[] = [];

  /** @param onItem called with each element of the member `items`, parsed */
  constructor(private readonly onItem: (item: unknown) => void) {}

  /** @throws SyntaxError for an item that is no JSON. */
  push(chunk: Buffer): void {
    this.start = 0;
    for (let at = 0; at < chunk.length; at++) {
      if (this.inString) at = this.string(chunk, at);
      else this.structure(chunk, at);
    }
    this.keep(chunk, chunk.length);
  }

  /** The list without its items. @throws SyntaxError where the text ends too early, or is no JSON. */
  end(): unknown {
    if (this.depth !== 0 || this.inString) throw new SyntaxError('the list ends in the middle');
    return JSON.parse(Buffer.concat(this.rest).toString()) as unknown;
  }

  /** Goes to the end of the string, or of the chunk; gives the last index that it has looked at. */
  private string(chunk: Buffer, from: number): number {
    for (let at = from; at < chunk.length; at++) {
      const byte = chunk[at] ?? 0;
      if (this.escaped) this.escaped = false;
      else if (byte === BACKSLASH) this.escaped = true;
      else if (byte === QUOTE) {
        this.inString = false;
        this.readingWord = false;
        return at;
      }
      if (this.readingWord) this.word += String.fromCharCode(byte);
    }
    return chunk.length;
  }

  private structure(chunk: Buffer, at: number): void {
    switch (chunk[at] ?? 0) {
      case QUOTE:
        this.inString = true;
        if (this.depth === 1) {
          this.readingWord = true;
          this.word = '';
        }
        return;
      case BRACE:
      case BRACKET:
        this.opens(chunk, at);
        return;
      case END_BRACE:
      case END_BRACKET:
        this.closes(chunk, at);
        return;
      case COMMA:
        // Between items; what is around them is the list's own.
        if (this.inItems && this.depth === ITEM_DEPTH) this.skip(at + 1);
        return;
      default:
        return;
    }
  }

  private opens(chunk: Buffer, at: number): void {
    if (this.inItems && this.depth === ITEM_DEPTH) this.skip(at);
    this.depth++;
    if (this.depth === ITEM_DEPTH && chunk[at] === BRACKET && this.word === 'items') {
      this.keep(chunk, at + 1);
      this.skip(at + 1);
      this.inItems = true;
    }
  }

  private closes(chunk: Buffer, at: number): void {
    this.depth--;
    if (!this.inItems) return;
    if (this.depth === ITEM_DEPTH) {
      this.keep(chunk, at + 1);
      const text = Buffer.concat(this.parts).toString();
      this.skip(at + 1);
      this.onItem(JSON.parse(text));
    } else if (this.depth === ITEM_DEPTH - 1) {
      this.skip(at);
      this.inItems = false;
    }
  }

  /** Everything before `at` that was not kept does not matter. */
  private skip(at: number): void {
    this.start = at;
    this.parts = [];
  }

  /** Keeps what has come since the last time, up to `end`. */
  private keep(chunk: Buffer, end: number): void {
    const part = chunk.subarray(this.start, end);
    this.start = end;
    if (part.length === 0) return;
    if (!this.inItems) this.rest.push(Buffer.from(part));
    else if (this.depth >= ITEM_DEPTH) this.parts.push(part);
  }
}
