// @ts-check
// Card of a photo: waiting, working, done or failed.

import { make, sentence, shown } from './dom.js';
import { Picture } from './picture.js';

/** @import {Description, Detection} from './types.js' */
/** @import {Pool} from './pool.js' */

export class Card {
  /** @type {Detection | undefined} */
  detection;
  /** @type {Picture | undefined} */
  #picture;

  /**
   * @param {File} file
   * @param {string | null} product the photo's class, if known for certain
   * @param {(card: Card) => void} remove
   */
  constructor(file, product, remove) {
    this.file = file;
    this.product = product;
    const close = make('button', { type: 'button', className: 'close', textContent: '×' });
    close.setAttribute('aria-label', shown(`Remove ${file.name}`));
    close.addEventListener('click', () => remove(this));
    this.body = make('div', { className: 'card-body' });
    this.element = make('li', { className: 'card' }, this.body, close);
    this.wait();
  }

  /** Shows that the photo waits for inspection. */
  wait() {
    this.detection = undefined;
    this.element.dataset.state = 'waiting';
    this.body.replaceChildren(make('div', { className: 'stage shimmer' }), this.#caption('Waiting…'));
  }

  /** Shows that the photo is being inspected. */
  work() {
    this.element.dataset.state = 'working';
    this.body.replaceChildren(make('div', { className: 'stage shimmer' }), this.#caption('Inspecting…'));
  }

  /** @param {unknown} error */
  fail(error) {
    this.element.dataset.state = 'failed';
    const message = make('p', { className: 'refusal', textContent: sentence(error) });
    message.setAttribute('role', 'alert');
    this.body.replaceChildren(message);
  }

  /**
   * @param {Detection} detection
   * @param {Description} description
   * @param {Pool} detector
   * @param {string | null} product the class chosen on the page
   * @param {number} opacity
   */
  async show(detection, description, detector, product, opacity) {
    this.detection = detection;
    const canvas = make('canvas');
    canvas.setAttribute('role', 'img');
    this.#picture = new Picture(canvas, detection);
    // The canvas has a copy. Hundreds of photos must not be in memory twice.
    detection.preview = new Uint8ClampedArray();
    this.stage = make('button', { type: 'button', className: 'stage', title: 'Enlarge or shrink' }, canvas);
    this.stage.addEventListener('click', () => this.element.classList.toggle('wide'));
    await this.judge(description, detector, product);
    this.draw(opacity);
    this.element.dataset.state = 'done';
  }

  /**
   * The class whose threshold counts: the photo's own, or the one chosen on the page, if the model knows it.
   * @param {Description} description
   * @param {string | null} chosen
   */
  known(description, chosen) {
    return description.classes.find(({ name }) => name === (this.product ?? chosen));
  }

  /**
   * Compares the score with the threshold of the photo's class, or of the class chosen on the page.
   * @param {Description} description
   * @param {Pool} detector
   * @param {string | null} chosen
   */
  async judge(description, detector, chosen) {
    const { detection, stage } = this;
    if (!detection || !stage) return;
    const known = this.known(description, chosen);
    const threshold = known?.threshold ?? description.threshold;
    const defective = detection.score > threshold;
    const product = known?.name ?? null;
    if (detection.colours.class !== product) {
      detection.colours = { class: product, rgba: await detector.colours(detection.map, product) };
    }
    this.#picture?.paint(detection.colours.rgba, detection.mapWidth);

    const verdict = make('span', { className: 'verdict', textContent: defective ? 'Defective' : 'Good' });
    const gauge = make('div', { className: 'gauge' });
    gauge.style.setProperty('--score', String(Math.min(1, detection.score / (2 * threshold))));
    const device = description.device.kind === 'webgpu' ? 'GPU' : 'CPU';
    const against = `Score ${short(detection.score)} · threshold ${short(threshold)}${known ? ` (${known.name})` : ''}`;
    const { decode, detect } = detection.timings;
    const time = `${duration(decode + detect)} on the ${device}`;
    stage.querySelector('canvas')?.setAttribute(
      'aria-label',
      shown(`${this.file.name} with its heatmap: ${defective ? 'defective' : 'good'}, score ${short(detection.score)}`),
    );
    this.element.dataset.verdict = defective ? 'defective' : 'good';
    this.element.dataset.score = String(detection.score);
    this.element.dataset.threshold = String(threshold);
    this.body.replaceChildren(
      stage,
      this.#caption(verdict),
      gauge,
      make('p', { className: 'numbers', textContent: against }),
      make('p', { className: 'numbers', textContent: time }),
    );
    // Only a model that was made here can learn at once.
    if (defective && document.documentElement.dataset.made) this.body.append(this.#forgive());
  }

  /** Button that makes the photo one of the good ones. */
  #forgive() {
    const button = make('button', { type: 'button', className: 'forgive', textContent: 'This is good after all' });
    button.addEventListener('click', () => {
      this.element.dispatchEvent(new CustomEvent('dinomaly:good', { bubbles: true, detail: this.file }));
    });
    return button;
  }

  /** @param {number} opacity */
  draw(opacity) {
    this.#picture?.draw(opacity);
  }

  /** @param {Node | string} state */
  #caption(state) {
    const name = make('span', { className: 'name', textContent: this.file.name, title: this.file.name });
    return make('div', { className: 'caption' }, name, state);
  }
}

/** @param {number} value */
const short = (value) => value.toPrecision(3);

/** @param {number} milliseconds */
const duration = (milliseconds) =>
  milliseconds < 1000 ? `${Math.max(1, Math.round(milliseconds))} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
