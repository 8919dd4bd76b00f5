/** Every cell of the matrix. */
import { allCells, testCells } from '../lib/matrix.js';

testCells(allCells());
