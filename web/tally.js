// @ts-check
// What the visitor's labels say about the verdicts: confusion, precision, recall.

import { make } from './dom.js';

/** @import {Card} from './card.js' */
/** @import {Verdict} from './types.js' */

/** @typedef {Record<'bad' | 'good', Record<Verdict, number>>} Confusion number of photos by label and verdict */

/** @type {Verdict[]} */
const VERDICTS = ['defective', 'good', 'unknown'];

/** @param {Card[]} cards */
export function countLabels(cards) {
  const none = () => ({ good: 0, defective: 0, unknown: 0 });
  /** @type {Confusion} */
  const counts = { bad: none(), good: none() };
  for (const { label, result } of cards) if (label && result) counts[label][result.verdict] += 1;
  return counts;
}

/** @param {Confusion} counts */
export function tallyTable({ bad, good }) {
  const total = (/** @type {Record<Verdict, number>} */ row) => row.defective + row.good + row.unknown;
  if (total(bad) + total(good) === 0) {
    return [make('p', { textContent: 'Open a photo and say what the part is (keys g and b): then precision and recall stand here.' })];
  }
  const cell = (/** @type {string | number} */ text) => make('td', { textContent: String(text) });
  const head = (/** @type {string} */ text, /** @type {'col' | 'row'} */ scope) => make('th', { textContent: text, scope });
  const row = (/** @type {string} */ name, /** @type {Record<Verdict, number>} */ counts) =>
    make('tr', {}, head(name, 'row'), ...VERDICTS.map((verdict) => cell(counts[verdict])));
  const table = make(
    'table',
    {},
    make('caption', { textContent: 'Labelled photos at the present threshold' }),
    make('thead', {}, make('tr', {}, make('td'), ...VERDICTS.map((verdict) => head(`called ${verdict}`, 'col')))),
    make('tbody', {}, row('really bad', bad), row('really good', good)),
  );
  const accused = bad.defective + good.defective;
  const lines = [
    share('Precision', bad.defective, accused, 'called defective are bad'),
    share('Recall', bad.defective, total(bad), 'bad ones are called defective'),
  ];
  return [table, ...lines.map((textContent) => make('p', { textContent }))];
}

/**
 * @param {string} name
 * @param {number} part
 * @param {number} whole
 * @param {string} meaning
 */
function share(name, part, whole, meaning) {
  return whole === 0 ? `${name}: no such photo yet.` : `${name} ${Math.round((100 * part) / whole)} %: ${part} of ${whole} ${meaning}.`;
}
