// @ts-check
// Card of a photo: waiting, working, done or failed. It has pictures only while it is near the view.

import { make, sentence, shown } from './dom.js';
import { short } from './judge.js';

/** @import {Detection, Label, Verdict} from './types.js' */
/** @import {Judge} from './judge.js' */
/** @import {Inspected} from './result.js' */

/** @type {Record<Verdict, string>} */
export const VERDICTS = { good: 'Good', defective: 'Defective', unknown: 'Unknown product' };

/**
 * @typedef {object} Actions
 * @property {(card: Card) => void} remove
 * @property {(card: Card) => void} open shows the photo large
 * @property {(card: Card, product: string) => void} choose
 * @property {(card: Card) => void} again inspects the photo again
 */

/** What is known of a photo before it is inspected. @typedef {{product: string | null, truth: Label, note: string | null}} About */

export class Card {
  /** The class that the visitor chose. @type {string | null} */
  chosen = null;
  /** @type {Inspected | undefined} */
  result;
  /** The detector's answer, until it is announced. @type {Detection | undefined} */
  detection;
  /** Id of the result before this inspection, which stays kept until there is another one. @type {string | undefined} */
  before;
  /** Order of arrival, also over visits. */
  arrived = 0;
  /** The present inspection, which a later one replaces. @type {object | undefined} */
  turn;
  /** Whether the result was kept on an earlier visit. */
  restored = false;
  /** Number of the photos that came together, and the place among them. */
  batch = 0;
  place = 0;
  #near = false;
  /** Addresses of the pictures. @type {string[]} */
  #urls = [];
  #photo = make('img', { alt: '', className: 'photo', draggable: false });
  #heat = make('img', { alt: '', className: 'heat', draggable: false });

  /**
   * @param {File | undefined} file
   * @param {string} name
   * @param {About} about
   * @param {Actions} actions
   */
  constructor(file, name, about, actions) {
    this.file = file;
    this.name = name;
    this.about = about;
    this.label = about.truth;
    this.actions = actions;
    const close = make('button', { type: 'button', className: 'close', textContent: '×' });
    close.setAttribute('aria-label', shown(`Remove ${name}`));
    close.addEventListener('click', () => actions.remove(this));
    this.body = make('div', { className: 'card-body' });
    this.element = make('li', { className: 'card' }, this.body, close);
    this.wait();
  }

  get state() {
    return this.element.dataset.state;
  }

  /** Shows that the photo waits for inspection. */
  wait() {
    this.#pend('waiting', 'Waiting…');
  }

  /** Shows that the photo is being inspected. */
  work() {
    this.#pend('working', 'Inspecting…');
  }

  /**
   * @param {string} state
   * @param {string} text
   */
  #pend(state, text) {
    this.before = this.result?.id ?? this.before;
    this.result = undefined;
    this.detection = undefined;
    this.restored = false;
    this.stage = undefined;
    this.#release();
    this.element.dataset.state = state;
    delete this.element.dataset.verdict;
    this.body.replaceChildren(make('div', { className: 'stage shimmer' }), this.#caption(text));
  }

  /** @param {unknown} error */
  fail(error) {
    this.#pend('failed', '');
    const message = make('p', { className: 'refusal', textContent: sentence(error) });
    message.setAttribute('role', 'alert');
    this.body.replaceChildren(message);
  }

  /**
   * @param {Inspected} result
   * @param {Judge | undefined} judge undefined for restored results, whose verdict stands
   */
  show(result, judge) {
    this.result = result;
    const { width, height, region } = result;
    const frame = make('span', { className: 'frame' }, this.#photo, this.#heat);
    frame.style.setProperty('--shape', String(width / height));
    const [x0, y0, x1, y1] = region;
    Object.assign(this.#heat.style, {
      left: percent(x0 / width), top: percent(y0 / height), width: percent((x1 - x0) / width), height: percent((y1 - y0) / height),
    });
    this.stage = make('button', { type: 'button', className: 'stage' }, frame);
    this.stage.addEventListener('click', () => this.actions.open(this));
    this.element.dataset.state = 'done';
    this.element.dataset.score = String(result.score);
    this.write(judge);
    this.redraw();
  }

  /**
   * Writes verdict and numbers.
   * @param {Judge | undefined} judge
   */
  write(judge) {
    const { result, stage } = this;
    if (!result || !stage) return;
    const { verdict, score, threshold, middle, product } = result;
    result.label = this.label;
    this.element.dataset.verdict = verdict;
    this.element.dataset.threshold = String(threshold);
    stage.setAttribute('aria-label', shown(`Enlarge ${this.name}: ${VERDICTS[verdict].toLowerCase()}, score ${short(score)}`));
    const gauge = make('div', { className: 'gauge' });
    gauge.style.setProperty('--score', String(Math.min(1, score / (2 * threshold))));
    const model = middle === threshold ? '' : `; model’s: ${short(middle)}`;
    const note = `${product ?? ''}${model}`.replace(/^; /, '');
    const against = `Score ${short(score)} · threshold ${short(threshold)}${note ? ` (${note})` : ''}`;
    const focused = this.body.contains(document.activeElement) ? document.activeElement?.className : undefined;
    this.body.replaceChildren(
      stage,
      this.#caption(make('span', { className: 'verdict', textContent: VERDICTS[verdict] })),
      gauge,
      make('p', { className: 'numbers', textContent: against }),
      make('p', { className: 'numbers', textContent: when(result) }),
      make('div', { className: 'extras' }, ...this.#extras(result, judge)),
    );
    // What had the focus was made anew.
    if (focused) /** @type {HTMLElement | null} */ (this.body.querySelector(`.${focused}`))?.focus();
  }

  /**
   * @param {Inspected} result
   * @param {Judge | undefined} judge
   */
  *#extras({ verdict }, judge) {
    const truth = disagreement(this.label, verdict);
    if (truth) yield make('p', { className: truth.startsWith('Labelled') ? 'label' : 'label wrong', textContent: truth });
    if (this.about.note) yield make('p', { className: 'note', textContent: this.about.note });
    // Only a model that was made here can learn at once.
    const learns = this.file && document.documentElement.dataset.made;
    if (verdict === 'unknown') {
      yield make('p', { className: 'note', textContent: 'Unlike anything that this model knows, so it cannot tell good from defective.' });
      if (!learns) yield this.#button('make-own', 'Make a detector from a few good photos', makeOwn);
    }
    if (judge && judge.description.classes.length > 1) yield this.#productButton(judge);
    if (verdict !== 'good' && learns) {
      yield this.#button('forgive', 'This is good after all', () => {
        this.element.dispatchEvent(new CustomEvent('dinomaly:good', { bubbles: true, detail: this.file }));
      });
    }
    if (this.restored) {
      yield make('p', { className: 'note', textContent: 'Kept from an earlier visit.' });
      if (this.file) yield this.#button('again', 'Inspect again', () => this.actions.again(this));
    }
  }

  /**
   * Button that becomes the list of classes: hundreds of lists would keep the browser busy.
   * @param {Judge} judge
   */
  #productButton(judge) {
    const button = this.#button('product', this.result?.product ?? 'no product', () => {
      const list = this.productChoice(judge);
      button.replaceWith(list);
      list.focus();
      list.addEventListener('blur', () => list.isConnected && list.replaceWith(button));
    });
    button.setAttribute('aria-label', shown(`Product of ${this.name}: ${button.textContent}. Change it`));
    return button;
  }

  /**
   * List of the model's classes, to change that of the photo.
   * @param {Judge} judge
   */
  productChoice({ description }) {
    const present = this.result?.product ?? '';
    const options = description.classes.map(({ name }) => make('option', { value: name, textContent: name }));
    if (!present) options.unshift(make('option', { value: '', textContent: 'no product', disabled: true }));
    const select = make('select', { className: 'product' }, ...options);
    select.value = present;
    select.setAttribute('aria-label', shown(`Product of ${this.name}`));
    select.addEventListener('change', () => this.actions.choose(this, select.value));
    return select;
  }

  /** @param {number} opacity of the heatmap, 0 to 1 */
  set opacity(opacity) {
    this.#heat.style.opacity = String(opacity);
  }

  /** Keeps pictures only near the view. @param {boolean} near */
  set near(near) {
    if (near === this.#near) return;
    this.#near = near;
    this.redraw();
  }

  /** Waits for the pictures. */
  async decoded() {
    const images = [this.#photo, this.#heat].filter(({ src }) => src);
    await Promise.all(images.map((image) => image.decode().catch(() => {})));
  }

  /** Takes the present thumbnails. */
  redraw() {
    this.#release();
    const { result } = this;
    if (!this.#near || !result) return;
    for (const [image, blob] of /** @type {const} */ ([[this.#photo, result.thumbnail], [this.#heat, result.heat]])) {
      if (!blob) continue;
      const url = URL.createObjectURL(blob);
      this.#urls.push(url);
      image.src = url;
    }
  }

  #release() {
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    this.#photo.removeAttribute('src');
    this.#heat.removeAttribute('src');
  }

  /**
   * @param {string} className
   * @param {string} text
   * @param {() => void} press
   */
  #button(className, text, press) {
    const button = make('button', { type: 'button', className, textContent: text });
    button.addEventListener('click', press);
    return button;
  }

  /** @param {Node | string} state */
  #caption(state) {
    const name = make('span', { className: 'name', textContent: this.name, title: this.name });
    return make('div', { className: 'caption' }, name, state);
  }
}

/**
 * What a label says about a verdict; nothing without a label.
 * @param {Label} label
 * @param {Verdict} verdict
 */
export function disagreement(label, verdict) {
  if (!label) return '';
  if (label === 'bad' && verdict === 'good') return 'Missed: this part is bad';
  if (label === 'good' && verdict === 'defective') return 'False alarm: this part is good';
  return `Labelled ${label}`;
}

/** Opens the panel that makes a detector of the visitor's own. */
export function makeOwn() {
  const panel = document.getElementById('own');
  if (!(panel instanceof HTMLDetailsElement)) return;
  panel.open = true;
  panel.scrollIntoView({ block: 'start' });
  panel.querySelector('summary')?.focus();
}

/** @param {Inspected} result */
function when({ duration, device, time }) {
  const where = device === 'webgpu' ? 'GPU' : 'CPU';
  if (duration === undefined) return `Inspected ${new Date(time).toLocaleString()} on the ${where}`;
  const spent = duration < 1000 ? `${Math.max(1, Math.round(duration))} ms` : `${(duration / 1000).toFixed(1)} s`;
  return `${spent} on the ${where}`;
}

/** @param {number} share */
const percent = (share) => `${100 * share}%`;
