// @ts-check
// Panel with the threshold over a histogram of scores, and what labels say about it.

import { byId, shown } from './dom.js';
import { drawHistogram } from './histogram.js';
import { short, verdict } from './judge.js';
import { countLabels, tallyTable } from './tally.js';

/** @import {Card} from './card.js' */
/** @import {Calibration} from './types.js' */
/** @import {Judge} from './judge.js' */
/** @import {Inspected} from './result.js' */
/** @import {Shelf} from './shelf.js' */

/** Positions of the slider. */
const POSITIONS = 400;

export class Tuning {
  /** Thresholds of the present model. @type {Judge | undefined} */
  judge;
  #due = false;
  #panel = byId('tuning', HTMLDetailsElement);
  #now = byId('tuning-now', HTMLSpanElement);
  #text = byId('tuning-text', HTMLParagraphElement);
  #form = byId('tuning-form', HTMLDivElement);
  #slider = byId('threshold', HTMLInputElement);
  #flips = byId('flips', HTMLParagraphElement);
  #reset = byId('threshold-reset', HTMLButtonElement);

  /**
   * @param {Shelf} shelf
   * @param {(product: string | null, threshold: number | null) => void} set called with each new threshold; `null` is the model's
   */
  constructor(shelf, set) {
    this.shelf = shelf;
    this.set = set;
    this.#panel.addEventListener('toggle', () => this.show());
    byId('class', HTMLSelectElement).addEventListener('change', () => this.show());
    this.#slider.addEventListener('input', () => this.#preview());
    this.#slider.addEventListener('change', () => {
      const flipping = this.#flipping();
      const product = this.#product() ?? null;
      const model = this.judge?.of(product).threshold ?? 0;
      const value = Number(this.#slider.value);
      // The model's threshold lies between two positions of the slider.
      this.set(product, Math.abs(value - model) <= Number(this.#slider.step) / 2 ? null : value);
      this.#flips.textContent = flipping ? `Changed: ${flipping}.` : 'No verdict changed.';
    });
    this.#reset.addEventListener('click', () => {
      this.set(this.#product() ?? null, null);
      this.#flips.textContent = '';
      this.#slider.focus();
    });
  }

  /** Shows the present photos, at most once a frame. */
  show() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#write();
    });
  }

  /** Results of the product, without those that the model of an earlier visit gave. */
  #results() {
    const product = this.#product();
    const present = this.shelf.cards.filter(({ result, restored }) => result && !restored && result.product === product);
    return present.map(({ result }) => /** @type {Inspected} */ (result));
  }

  /** The product whose threshold is shown: the one chosen, or that of all photos; undefined if they have several. */
  #product() {
    if (this.shelf.product !== null) return this.shelf.product;
    const products = new Set(this.shelf.cards.flatMap(({ result, restored }) => (result && !restored ? [result.product] : [])));
    return products.size === 1 ? [...products][0] : undefined;
  }

  #write() {
    const { judge } = this;
    const product = this.#product();
    const changed = judge?.changed() ?? [];
    this.#now.textContent = shown(changed.map(([name, own, model]) =>
      `${name ? `${name}: ` : ''}threshold ${short(own)} (model’s: ${short(model)})`).join(' · '));
    if (!this.#panel.open) return;
    byId('tally', HTMLDivElement).replaceChildren(...tallyTable(countLabels(this.#shownProducts())));
    const possible = judge !== undefined && product !== undefined;
    this.#form.hidden = !possible;
    if (!possible) {
      this.#text.textContent = judge ? 'Choose a product above to see and set its threshold.' : 'No detector is ready.';
      return;
    }
    const results = this.#results();
    const { good, threshold: model } = judge.of(product);
    const threshold = judge.threshold(product);
    this.#text.textContent = shown(
      `${product ?? 'Photos of no product'}: ${results.length === 1 ? '1 photo' : `${results.length} photos`}, ` +
      `threshold ${short(threshold)}${threshold === model ? ', the model’s' : ` (model’s: ${short(model)})`}.`,
    );
    this.#reset.hidden = threshold === model;
    const values = [...results.map(({ score }) => score), ...(good?.quantiles.map(({ score }) => score) ?? []), threshold, model];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || high || 1) * 0.05;
    const range = /** @type {const} */ ([Math.max(0, low - room), high + room]);
    // While it is dragged, the slider is the visitor's.
    if (!this.#slider.matches(':active')) {
      Object.assign(this.#slider, { min: String(range[0]), max: String(range[1]), step: String((range[1] - range[0]) / POSITIONS) });
      this.#slider.value = String(threshold);
      this.#slider.setAttribute('aria-valuetext', short(threshold));
    }
    byId('tuning-low', HTMLSpanElement).textContent = short(range[0]);
    byId('tuning-high', HTMLSpanElement).textContent = short(range[1]);
    this.#drawn = { results, good, range };
    drawHistogram(results, good, range, threshold);
    this.#alarms(threshold);
  }

  /** What is drawn. @type {{results: Inspected[], good: Calibration['good'], range: readonly [number, number]} | undefined} */
  #drawn;

  /** Shows what a threshold would change, while the slider moves. */
  #preview() {
    if (!this.#drawn) return;
    const { results, good, range } = this.#drawn;
    const threshold = Number(this.#slider.value);
    this.#slider.setAttribute('aria-valuetext', short(threshold));
    drawHistogram(results, good, range, threshold);
    this.#flips.textContent = `${short(threshold)} would change ${this.#flipping() || 'no verdict'}.`;
    this.#alarms(threshold);
  }

  /** Photos whose verdict the slider's place would change, in words. */
  #flipping() {
    const threshold = Number(this.#slider.value);
    const flips = (this.#drawn?.results ?? []).filter((result) => verdict(result, threshold) !== result.verdict);
    const accused = flips.filter(({ verdict }) => verdict === 'good').length;
    const parts = [[accused, 'defective'], [flips.length - accused, 'good']].filter(([count]) => count);
    const [photos] = [flips.length === 1 ? '1 photo' : `${flips.length} photos`];
    return flips.length ? `${photos} (${parts.map(([count, to]) => `${count} to ${to}`).join(', ')})` : '';
  }

  /** @param {number} threshold */
  #alarms(threshold) {
    const { good } = this.#drawn ?? {};
    const line = byId('alarms', HTMLParagraphElement);
    line.hidden = !good;
    if (!good) return;
    const count = Math.round(shareAbove(good.quantiles, threshold) * good.count);
    const some = count === 0 ? 'none lies' : count === 1 ? 'about 1 lies' : `about ${count} lie`;
    const doubt = this.judge?.description.heldOut ? '' : ' It was made of them: new good photos score higher.';
    line.textContent = `The green strip shows the scores of the model’s good photos, its thick part the middle half. Of these ${good.count} ${some} above the line.${doubt}`;
  }

  /** Cards of the chosen product; all without a choice. @returns {Card[]} */
  #shownProducts() {
    const { cards, product } = this.shelf;
    return cards.filter(({ result }) => result && (product === null || result.product === product));
  }
}

/**
 * Share of good photos that score higher, interpolated between quantiles.
 * @param {{level: number, score: number}[]} quantiles ascending
 * @param {number} threshold
 */
export function shareAbove(quantiles, threshold) {
  const next = quantiles.findIndex(({ score }) => score > threshold);
  if (next < 0) return 0;
  if (next === 0) return 1;
  const [below, above] = [quantiles[next - 1], quantiles[next]];
  const level = below.level + ((threshold - below.score) / (above.score - below.score)) * (above.level - below.level);
  return 1 - level;
}
