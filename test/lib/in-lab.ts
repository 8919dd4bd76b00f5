/** `node in-lab.js ARGUMENT…`: runs node with these arguments inside a lab. */
import { runInLab } from '../../bench/lab.js';

process.exitCode = await runInLab(process.execPath, process.argv.slice(2));
