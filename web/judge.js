// @ts-check
// Verdicts: which class's threshold counts for a photo, and thresholds that the visitor has set.

/** @import {Description, Row, Verdict} from './types.js' */

export class Judge {
  /** Thresholds that the visitor has set, by class; the empty name is that of photos of no class. @type {Map<string, number>} */
  #own = new Map();

  /** @param {Description} description */
  constructor(description) {
    this.description = description;
  }

  /**
   * The class of a photo: the first of these that the model knows, or the only one that it knows.
   * @param {(string | null)[]} products the surest first
   */
  product(products) {
    const { classes } = this.description;
    const known = products.find((product) => classes.some(({ name }) => name === product));
    return known ?? (classes.length === 1 ? classes[0].name : null);
  }

  /**
   * The model's calibration of a class.
   * @param {string | null} product
   */
  of(product) {
    return this.description.classes.find(({ name }) => name === product) ?? this.description;
  }

  /**
   * The threshold that counts.
   * @param {string | null} product
   */
  threshold(product) {
    return this.#own.get(product ?? '') ?? this.of(product).threshold;
  }

  /**
   * Sets a threshold in place of the model's; `null` and the model's own take it back.
   * @param {string | null} product
   * @param {number | null} threshold
   */
  set(product, threshold) {
    if (threshold === null || threshold === this.of(product).threshold) this.#own.delete(product ?? '');
    else this.#own.set(product ?? '', threshold);
  }

  /** Thresholds that the visitor has set, with the model's. @returns {[string, number, number][]} */
  changed() {
    return [...this.#own].map(([product, threshold]) => [product, threshold, this.of(product || null).threshold]);
  }

  /**
   * Compares a score with the threshold of its class. Returns whether the heatmap's colours have changed.
   * @param {Pick<Row, 'score' | 'unknown' | 'product' | 'middle' | 'threshold' | 'verdict'>} result
   * @param {string | null} product
   */
  apply(result, product) {
    const middle = this.of(product).threshold;
    const moved = result.middle !== middle;
    result.product = product;
    result.middle = middle;
    result.threshold = this.threshold(product);
    result.verdict = verdict(result, result.threshold);
    return moved;
  }

  /**
   * The score on a scale that classes share: 0 is the median of good photos, 1 the model's threshold. `null` if the model does
   * not tell.
   * @param {{score: number, product: string | null}} result
   */
  normalised({ score, product }) {
    const { threshold, good } = this.of(product);
    const median = good?.quantiles.find(({ level }) => level === 0.5)?.score;
    return median === undefined || threshold <= median ? null : (score - median) / (threshold - median);
  }
}

/**
 * A photo unlike anything the model knows is never called good.
 * @param {{score: number, unknown: boolean}} result
 * @param {number} threshold
 * @returns {Verdict}
 */
export function verdict({ score, unknown }, threshold) {
  if (unknown) return 'unknown';
  return score > threshold ? 'defective' : 'good';
}

/** A score in three significant digits. @param {number} value */
export const short = (value) => value.toPrecision(3);
