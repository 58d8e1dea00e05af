// @ts-check
// All photos on the page, inspected in order of arrival, as many at a time as the detector takes.

import { Card } from './card.js';
import { byId } from './dom.js';

/** @import {Description} from './types.js' */
/** @import {Pool} from './pool.js' */

export class Gallery {
  /** @type {Card[]} */
  #cards = [];
  /** @type {{detector: Pool, description: Description} | undefined} */
  #running;
  /** Number of photos being inspected. */
  #looking = 0;
  /** Queue of announcements, so that results are announced in the order of the photos. */
  #announced = Promise.resolve();
  /** @type {string | null} */
  #product = null;
  #section = byId('results', HTMLElement);
  #list = byId('cards', HTMLUListElement);
  #summary = byId('summary', HTMLParagraphElement);
  #opacity = byId('opacity', HTMLInputElement);

  /** @param {(description: Description) => void} reopened called after a lost device was opened again */
  constructor(reopened) {
    this.reopened = reopened;
    this.#opacity.addEventListener('input', () => {
      this.#opacity.setAttribute('aria-valuetext', `${this.#opacity.value} %`);
      for (const card of this.#cards) card.draw(this.opacity);
    });
    byId('clear', HTMLButtonElement).addEventListener('click', () => {
      for (const card of [...this.#cards]) this.#remove(card);
    });
  }

  get opacity() {
    return Number(this.#opacity.value) / 100;
  }

  /**
   * Adds photos; the newest are shown first.
   * @param {File[]} files
   * @param {string | null} product their class, if known for certain
   */
  add(files, product = null) {
    const cards = files.map((file) => new Card(file, product, (card) => this.#remove(card)));
    this.#cards.push(...cards);
    this.#list.prepend(...cards.map(({ element }) => element));
    this.#summarise();
    this.#work();
  }

  /** Makes photos wait, while there is no model. */
  pause() {
    this.#running = undefined;
    for (const card of this.#cards) if (card.element.dataset.state !== 'waiting') card.wait();
    this.#summarise();
  }

  /**
   * Inspects all photos with this model.
   * @param {Pool} detector
   * @param {Description} description
   */
  resume(detector, description) {
    this.#running = { detector, description };
    void this.#drawScale(detector, description);
    this.#work();
  }

  /** @param {string | null} product the class whose threshold counts */
  async choose(product) {
    this.#product = product;
    if (!this.#running) return;
    const { detector, description } = this.#running;
    for (const card of [...this.#cards]) {
      try {
        await card.judge(description, detector, product);
        card.draw(this.opacity);
      } catch {
        // The device was lost, or another model was chosen: the photo is inspected again.
        card.wait();
      }
    }
    this.#work();
    this.#summarise();
  }

  #work() {
    while (this.#running && this.#looking < this.#running.detector.lanes) {
      const card = this.#next();
      if (!card) return;
      const running = this.#running;
      this.#looking += 1;
      const looked = this.#look(card, running).finally(() => {
        this.#looking -= 1;
        this.#work();
      });
      this.#announced = Promise.all([looked, this.#announced]).then(([seen]) => {
        if (seen && this.#running === running) this.#announce(card, running.description);
      });
    }
  }

  #next() {
    return this.#cards.find(({ element }) => element.dataset.state === 'waiting');
  }

  /**
   * Inspects a photo; returns whether there is a result.
   * @param {Card} card
   * @param {{detector: Pool, description: Description}} running
   * @returns {Promise<boolean>}
   */
  async #look(card, running) {
    card.work();
    const superseded = () => this.#running !== running;
    try {
      const known = card.known(running.description, this.#product);
      const detection = await running.detector.detect(card.file, known?.name ?? null, (description) => {
        if (superseded()) return;
        running.description = description;
        this.reopened(description);
      });
      await card.show(detection, running.description, running.detector, this.#product, this.opacity);
      if (superseded()) card.wait();
    } catch (error) {
      if (superseded()) card.wait();
      else card.fail(error);
    }
    this.#summarise();
    return card.element.dataset.state === 'done';
  }

  /**
   * Dispatches the event `dinomaly:result` with the detection's numbers, for scripts and tests.
   * @param {Card} card
   * @param {Description} description
   */
  #announce(card, { device }) {
    const { file, detection } = card;
    if (!detection) return;
    const { preview: _preview, previewWidth: _previewWidth, colours: _colours, ...numbers } = detection;
    const detail = { file: file.name, device: device.kind, threshold: Number(card.element.dataset.threshold), ...numbers };
    card.element.dispatchEvent(new CustomEvent('dinomaly:result', { bubbles: true, detail }));
  }

  /** @param {Card} card */
  #remove(card) {
    this.#cards = this.#cards.filter((other) => other !== card);
    card.element.remove();
    this.#summarise();
    if (this.#cards.length === 0) byId('files', HTMLInputElement).focus();
  }

  #summarise() {
    const count = (/** @type {(card: Card) => boolean} */ is) => this.#cards.filter(is).length;
    const verdict = (/** @type {string} */ name) => count(({ element: { dataset } }) => dataset.state === 'done' && dataset.verdict === name);
    const parts = [
      [verdict('defective'), 'defective'],
      [verdict('good'), 'good'],
      [count(({ element }) => element.dataset.state === 'failed'), 'failed'],
      [count(({ element }) => ['waiting', 'working'].includes(element.dataset.state ?? '')), 'waiting'],
    ];
    this.#summary.textContent = parts.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(' · ');
    this.#section.hidden = this.#cards.length === 0;
  }

  /**
   * Draws the legend, in the colours of the heatmaps.
   * @param {Pool} detector
   * @param {Description} description
   */
  async #drawScale(detector, { threshold }) {
    const ramp = Float32Array.from({ length: 256 }, (_, i) => (i / 255) * 2 * threshold);
    const rgba = await detector.colours(ramp, null).catch(() => undefined);
    if (!rgba) return;
    const row = new ImageData(new Uint8ClampedArray(rgba), 256);
    byId('scale', HTMLCanvasElement).getContext('2d')?.putImageData(row, 0, 0);
  }
}
