// @ts-check
// All photos on the page, inspected in order of arrival, those in view first, as many at a time as the detector takes.

import { Batch } from './batch.js';
import { Card } from './card.js';
import { byId } from './dom.js';
import { Judge } from './judge.js';
import { drawScale, paletteOf } from './palette.js';
import { Inspected } from './result.js';
import { Shelf, neighbour } from './shelf.js';
import { Tuning } from './tuning.js';
import { Viewer } from './viewer.js';

/** @import {Description, Label, Result, Row} from './types.js' */
/** @import {Pool} from './pool.js' */

/** @typedef {{detector: Pool, judge: Judge, palette: Promise<Uint8ClampedArray<ArrayBuffer>>}} Running */

export class Gallery {
  /** @type {Running | undefined} */
  #running;
  /** The last model's thresholds. @type {Judge | undefined} */
  #judge;
  /** Number of photos being inspected. */
  #looking = 0;
  #batches = 0;
  /** Order of arrival of the last photo: microseconds, so that later visits go on with it. */
  #arrived = 0;
  /** Queue of announcements, so that results are announced in the order in which photos were taken up. */
  #announced = Promise.resolve();
  #section = byId('results', HTMLElement);
  #summary = byId('summary', HTMLParagraphElement);
  #opacity = byId('opacity', HTMLInputElement);
  #shelf = new Shelf(() => this.#summarise());
  #batch = new Batch(() => this.#work());
  #tuning = new Tuning(this.#shelf, (product, threshold) => this.#tune(product, threshold));
  #viewer = new Viewer(this.#shelf, {
    label: (card, label) => this.#label(card, label),
    choose: (card, product) => this.#choose(card, product),
  });

  /** @param {(description: Description) => void} reopened called after a lost device was opened again */
  constructor(reopened) {
    this.reopened = reopened;
    this.#opacity.addEventListener('input', () => this.#fade());
    this.#fade();
    byId('clear', HTMLButtonElement).addEventListener('click', () => this.#remove(this.#shelf.cards));
  }

  /** Every heatmap lies over its photo in a layer of its own: nothing is drawn again. */
  #fade() {
    const { value } = this.#opacity;
    this.#opacity.setAttribute('aria-valuetext', `${value} %`);
    this.#shelf.fade(Number(value) / 100);
    this.#viewer.opacity = Number(value) / 100;
  }

  /**
   * Adds photos; the newest are shown first.
   * @param {File[]} files
   * @param {string | null} product their class, if known for certain
   * @param {{truth?: Label, note?: string | null}} about what is known of them besides: what they are, how they were read
   */
  add(files, product = null, { truth = null, note = null } = {}) {
    this.#put(files.map((file) => this.#card(file, file.name, { product, truth, note })));
    const { top } = this.#section.getBoundingClientRect();
    // On a phone the results lie below what was tapped.
    if (files.length > 0 && top > innerHeight * 0.7) this.#section.scrollIntoView({ block: 'start' });
    this.#work();
  }

  /** Shows the pictures of all photos, for print. @returns {Promise<() => void>} what ends that */
  showAll() {
    return this.#shelf.showAll();
  }

  /** Ids of earlier results of photos that are inspected again. */
  pending() {
    return this.#shelf.cards.flatMap(({ result, before }) => (result ? [] : before ?? []));
  }

  /** Results of all inspected photos, in order of arrival. @returns {Result[]} */
  results() {
    return this.#shelf.cards.flatMap(({ result }) => result ?? []);
  }

  /**
   * Shows results that were kept on an earlier visit. They stay as they are, whichever model is chosen.
   * @param {Row[]} rows
   */
  restore(rows) {
    const cards = rows.map((row) => {
      const card = this.#card(row.file, row.name, { product: row.product, truth: row.label, note: null });
      card.restored = true;
      card.arrived = row.arrived;
      card.show(Inspected.restored(row), undefined);
      return card;
    });
    this.#put(cards);
  }

  /**
   * @param {File | undefined} file
   * @param {string} name
   * @param {import('./card.js').About} about
   */
  #card(file, name, about) {
    const card = new Card(file, name, about, {
      remove: (card) => this.#remove([card]),
      open: (card) => this.#viewer.open(card),
      choose: (card, product) => this.#choose(card, product),
      again: (card) => {
        card.wait();
        this.#work();
      },
    });
    card.arrived = this.#arrived = Math.max(this.#arrived + 1, Date.now() * 1000);
    return card;
  }

  /** @param {Card[]} cards */
  #put(cards) {
    this.#batches += 1;
    cards.forEach((card, place) => Object.assign(card, { batch: this.#batches, place }));
    this.#shelf.add(cards);
    this.#changed();
  }

  /** Makes photos wait, while there is no model. */
  pause() {
    this.#running = undefined;
    this.#tuning.judge = undefined;
    this.#viewer.judge = undefined;
    for (const card of this.#shelf.cards) if (card.state !== 'waiting' && !card.restored) card.wait();
    this.#viewer.refresh();
    this.#changed();
  }

  /**
   * Inspects all photos with this model.
   * @param {Pool} detector
   * @param {Description} description
   */
  resume(detector, description) {
    // The same model on another device keeps the thresholds that the visitor has set.
    if (this.#judge && same(this.#judge.description, description)) this.#judge.description = description;
    else this.#judge = new Judge(description);
    const palette = paletteOf(detector, description.threshold);
    palette.then(drawScale, () => {});
    this.#running = { detector, judge: this.#judge, palette };
    this.#tuning.judge = this.#viewer.judge = this.#judge;
    this.#tuning.show();
    this.#work();
  }

  #work() {
    while (this.#running && !this.#batch.paused && this.#looking < this.#running.detector.lanes) {
      const card = this.#shelf.next();
      if (!card) return;
      const running = this.#running;
      this.#looking += 1;
      // The detector goes on with the next photo while this one's pictures are made.
      const looked = this.#look(card, running, () => {
        this.#looking -= 1;
        this.#work();
      });
      this.#announced = Promise.all([looked, this.#announced]).then(([seen]) => {
        if (seen && this.#running === running) announce(card);
        card.detection = undefined;
      });
    }
  }

  /**
   * Inspects a photo; returns whether there is a result.
   * @param {Card} card
   * @param {Running} running
   * @param {() => void} free called when the detector is free again
   * @returns {Promise<boolean>}
   */
  async #look(card, running, free) {
    card.work();
    const turn = (card.turn = {});
    const superseded = () => this.#running !== running;
    const giveUp = () => {
      // Another model may be at it already.
      if (card.turn === turn && card.state === 'working') card.wait();
    };
    // A card that waits has its photo.
    const file = /** @type {File} */ (card.file);
    try {
      const { judge } = running;
      const product = judge.product([card.chosen, card.about.product]);
      const detection = await running.detector.detect(file, product, (description) => {
        if (superseded()) return;
        judge.description = description;
        this.reopened(description);
      }).finally(free);
      const result = Inspected.of(file, detection, judge.description.device.kind);
      result.arrived = card.arrived;
      judge.apply(result, judge.product([card.chosen, card.about.product, result.nearest]));
      // A device that was lost meanwhile is asked again.
      await result.keep(detection, await running.palette.catch(() => (running.palette = paletteOf(running.detector, judge.description.threshold))));
      if (superseded()) giveUp();
      else {
        // The visitor may have set another threshold meanwhile.
        judge.apply(result, result.product);
        card.detection = detection;
        card.show(result, judge);
      }
    } catch (error) {
      if (superseded()) giveUp();
      else card.fail(error);
    }
    this.#shelf.settle(card);
    this.#batch.count();
    this.#changed();
    return card.turn === turn && card.state === 'done';
  }

  /**
   * The visitor says which product a photo shows.
   * @param {Card} card
   * @param {string} product
   */
  async #choose(card, product) {
    card.chosen = product;
    const { result } = card;
    if (!result || !this.#running) return;
    const { judge, detector } = this.#running;
    const moved = judge.apply(result, judge.product([product]));
    card.write(judge);
    this.#shelf.settle(card);
    this.#changed();
    if (!moved || !result.whole) return;
    await result.recolour();
    if (result.regions) {
      const regions = await detector.regions(await result.map(), result.region, product).catch(() => undefined);
      result.regions = regions;
    }
    card.redraw();
    this.#viewer.refresh();
  }

  /**
   * Sets the threshold of a class, or takes the model's again.
   * @param {string | null} product
   * @param {number | null} threshold
   */
  #tune(product, threshold) {
    const judge = this.#running?.judge;
    if (!judge) return;
    judge.set(product, threshold);
    for (const card of this.#shelf.cards) {
      const { result } = card;
      if (!result || card.restored || result.product !== product) continue;
      judge.apply(result, product);
      card.write(judge);
    }
    this.#shelf.filter();
    this.#changed();
  }

  /**
   * @param {Card} card
   * @param {Label} label
   */
  #label(card, label) {
    card.label = label;
    card.write(card.restored ? undefined : this.#judge);
    this.#changed();
  }

  /** @param {Card[]} cards */
  #remove(cards) {
    const removed = [...cards];
    const next = removed.length === 1 ? neighbour(removed[0]) : undefined;
    this.#shelf.remove(new Set(removed));
    this.#changed();
    (next ?? byId('files', HTMLInputElement)).focus();
    const undo = () => {
      this.#shelf.putBack(removed);
      this.#changed();
      this.#work();
    };
    this.#section.dispatchEvent(new CustomEvent('dinomaly:removed', { bubbles: true, detail: { count: removed.length, undo } }));
  }

  #changed() {
    this.#shelf.offer();
    this.#summarise();
    this.#tuning.show();
    this.#section.dispatchEvent(new CustomEvent('dinomaly:changed', { bubbles: true }));
  }

  #summarise() {
    const { cards } = this.#shelf;
    const counts = new Map();
    for (const { state, element } of cards) {
      const kind = state === 'done' ? element.dataset.verdict : state === 'working' ? 'waiting' : state;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    const parts = ['defective', 'good', 'unknown', 'failed', 'waiting'].filter((kind) => counts.has(kind));
    this.#summary.textContent = parts.map((kind) => `${counts.get(kind)} ${kind}`).join(' · ');
    this.#batch.show(this.#running ? (counts.get('waiting') ?? 0) : 0);
    this.#section.hidden = cards.length === 0;
    byId('none-shown', HTMLParagraphElement).hidden = cards.length === 0 || cards.some(({ element }) => !element.hidden);
  }
}

/**
 * Dispatches the event `dinomaly:result` with the detection's numbers, for scripts and tests.
 * @param {Card} card
 */
function announce({ name, element, detection, result }) {
  if (!detection || !result) return;
  const { preview: _preview, previewWidth: _previewWidth, ...numbers } = detection;
  const detail = { file: name, device: result.device, threshold: result.threshold, ...numbers };
  element.dispatchEvent(new CustomEvent('dinomaly:result', { bubbles: true, detail }));
}

/**
 * Whether two descriptions are of one model.
 * @param {Description} a
 * @param {Description} b
 */
function same(a, b) {
  return a.name === b.name && JSON.stringify([a.threshold, a.classes]) === JSON.stringify([b.threshold, b.classes]);
}
