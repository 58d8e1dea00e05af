// @ts-check
// The export menu: tables, pictures, a report, print.

import { pack } from './archive.js';
import { byId, sentence, shown } from './dom.js';
import { csv, json, recordsOf } from './records.js';
import { report } from './report.js';
import { save } from './save.js';

/** @import {Judged, Result} from './types.js' */

const KINDS = /** @type {const} */ ({ 'export-csv': 'csv', 'export-json': 'json', 'export-zip': 'zip', 'export-html': 'html' });

export class Export {
  #menu = byId('export', HTMLDetailsElement);
  #said = byId('export-said', HTMLParagraphElement);
  #busy = false;
  /** Number of results without pictures. */
  #left = 0;

  /**
   * @param {() => Result[]} results
   * @param {(id: string) => Judged | undefined} judged what a result was judged by
   * @param {() => Promise<() => void>} showAll shows all pictures, also those outside the view; what it returns ends that
   */
  constructor(results, judged, showAll) {
    this.showAll = showAll;
    this.results = results;
    this.judged = judged;
    for (const [id, kind] of Object.entries(KINDS)) byId(id, HTMLButtonElement).addEventListener('click', () => void this.#work(kind));
    for (const button of this.#menu.querySelectorAll('button')) button.disabled = false;
    byId('export-print', HTMLButtonElement).addEventListener('click', () => void this.#print());
    this.#menu.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.#menu.open) return;
      event.stopPropagation();
      this.#menu.open = false;
      this.#menu.querySelector('summary')?.focus();
    });
    addEventListener('pointerdown', ({ target }) => {
      if (target instanceof Node && !this.#menu.contains(target)) this.#menu.open = false;
    });
  }

  async #print() {
    this.#menu.open = false;
    const end = await this.showAll();
    addEventListener('afterprint', end, { once: true });
    print();
  }

  /** @param {'csv' | 'json' | 'zip' | 'html'} kind */
  async #work(kind) {
    const results = this.results();
    if (this.#busy) return;
    if (results.length === 0) return this.#say('No photo was inspected yet.');
    this.#busy = true;
    this.#left = 0;
    try {
      this.#say('Writing…');
      const file = kind === 'zip' ? await this.#pictures(results) : await this.#table(kind, results);
      save(file);
      const left = this.#left === 0 ? '' : `, without ${this.#left} from earlier visits, whose heatmaps were not kept`;
      this.#say(`Written: ${file.name}${left}`);
    } catch (error) {
      this.#say(`Nothing was written: ${sentence(error)}`);
    }
    this.#busy = false;
  }

  /**
   * @param {'csv' | 'json' | 'html'} kind
   * @param {Result[]} results
   */
  async #table(kind, results) {
    const records = await recordsOf(results, this.judged);
    if (kind === 'csv') return new File([csv(records)], named('csv'), { type: 'text/csv' });
    if (kind === 'json') return new File([json(records)], named('json'), { type: 'application/json' });
    return new File([await report(results, records)], named('html'), { type: 'text/html' });
  }

  /**
   * A zip of heatmaps, alone and over their photos. One is drawn at a time.
   * @param {Result[]} results
   */
  async #pictures(results) {
    const whole = results.filter(({ whole }) => whole);
    if (whole.length === 0) throw new Error('the heatmaps were not kept: inspect the photos again');
    this.#left = results.length - whole.length;
    const said = (/** @type {number} */ done) => this.#say(`Drawing ${done + 1} of ${whole.length}…`);
    async function* pictures() {
      for (const [i, result] of whole.entries()) {
        said(i);
        const name = `${String(i + 1).padStart(4, '0')} ${harmless(result.name)}.png`;
        yield { name: `heatmaps/${name}`, content: await result.picture('heatmap') };
        yield { name: `overlays/${name}`, content: await result.picture('overlay') };
      }
    }
    return new File([await pack(pictures())], named('zip'), { type: 'application/zip' });
  }

  /** @param {string} text */
  #say(text) {
    this.#said.textContent = shown(text);
  }
}

/** @param {string} extension */
function named(extension) {
  return `inspection ${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}.${extension}`;
}

/** A name of a file on every system. @param {string} name */
function harmless(name) {
  return shown(name).replace(/[\\/:*?"<>|]/g, '_').slice(-120);
}
