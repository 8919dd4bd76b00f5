/** The system's own programs: where they are, and how they are run. */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { FlannelError } from '../errors.js';

/** Where system programs are although the PATH of a service or a user may not lead there. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin'];
/** Longer than the program itself waits for a lock. */
const TIMEOUT_MS = 60_000;
const MOST_OUTPUT = 256 << 20;
const MOST_WORDS = 300;

/** A program that ended with another status than 0, or not at all. */
export class ProgramError extends FlannelError {
  override readonly name = 'ProgramError';
}

/** The path of a program, or null. */
export function findProgram(name: string, path = process.env.PATH ?? ''): string | null {
  for (const folder of [...path.split(delimiter).filter((part) => part !== ''), ...SYSTEM_FOLDERS]) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // the next one
    }
  }
  return null;
}

/**
 * Runs a program to its end and resolves with its output.
 * @param input what it reads from stdin
 * @throws ProgramError with the program's own words.
 */
export function runProgram(program: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: TIMEOUT_MS,
      maxBuffer: MOST_OUTPUT,
      env: { ...process.env, LC_ALL: 'C' },
    };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new ProgramError(`${[program, ...args].join(' ')}: ${words(stderr) || error.message}`));
    });
    child.stdin?.on('error', () => undefined); // it ended without reading: its status tells why
    child.stdin?.end(input);
  });
}

/** What a program complained about, in one line, without the remarks that iptables begins with `#`. */
function words(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  return lines
    .map((line) => line.trim())
    .join('; ')
    .slice(0, MOST_WORDS);
}
