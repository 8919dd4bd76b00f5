/** What came of one target. */
export interface Outcome {
  readonly name: string;
  readonly executions: number;
  readonly seconds: number;
  /** Edges that the inputs reach together; a dash where nobody counts them. */
  readonly coverage: string;
  /** Inputs that were worth keeping. */
  readonly corpus: string;
  /** What happened, and the command that shows it again; null when all is well. */
  readonly failure: string | null;
}
