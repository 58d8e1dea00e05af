// @ts-check
// Results as records for other programs: CSV and JSON.

import { shown } from './dom.js';
import { arrivedAs } from './formats.js';
import { sha256 } from './hash.js';

/** @import {Result, Judged} from './types.js' */

/**
 * A result, as it is exported. What is unknown is null.
 * @typedef {object} Rec
 * @property {string} photo its name
 * @property {string | null} photo_sha256 of its file as it arrived
 * @property {string | null} product
 * @property {string} verdict
 * @property {number} score
 * @property {number} threshold
 * @property {string | null} label what the visitor said of it
 * @property {string | null} model its name
 * @property {string | null} model_hash beginning of the SHA-256 of its manifest
 * @property {string | null} program version
 * @property {string} device
 * @property {string} time
 */

/** @type {(keyof Rec)[]} */
const COLUMNS = ['photo', 'photo_sha256', 'product', 'verdict', 'score', 'threshold', 'label', 'model', 'model_hash', 'program', 'device', 'time'];

/**
 * @param {Result[]} results
 * @param {(id: string) => Judged | undefined} judged what a result was judged by
 * @returns {Promise<Rec[]>}
 */
export async function recordsOf(results, judged) {
  const records = [];
  for (const result of results) {
    const by = judged(result.id);
    // A file may be gone since.
    const hash = by?.photo ?? (result.file && (await sha256(arrivedAs(result.file)).catch(() => undefined)));
    records.push({
      photo: result.name,
      photo_sha256: hash ?? null,
      product: result.product,
      verdict: result.verdict,
      score: result.score,
      threshold: result.threshold,
      label: result.label,
      model: by?.model ?? null,
      model_hash: by?.hash ?? null,
      program: by?.program ?? null,
      device: result.device === 'webgpu' ? 'GPU' : 'CPU',
      time: new Date(result.time).toISOString(),
    });
  }
  return records;
}

/** @param {Rec[]} records */
export function csv(records) {
  const lines = records.map((record) => COLUMNS.map((column) => cell(record[column])).join(','));
  // With its mark spreadsheets read it as UTF-8.
  return `\ufeff${[COLUMNS.join(','), ...lines].join('\r\n')}\r\n`;
}

/**
 * A cell that no spreadsheet takes for a formula.
 * @param {string | number | null} value
 */
function cell(value) {
  if (typeof value === 'number') return String(value);
  const text = shown(value ?? '');
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  // Some spreadsheets separate by semicolons.
  return /[",;\t\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** @param {Rec[]} records */
export function json(records) {
  // As escapes, marks of reading direction are harmless and still exact.
  return `${JSON.stringify({ results: records }, null, 2).split('\n').map(shown).join('\n')}\n`;
}
