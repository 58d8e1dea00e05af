// @ts-check
// <dinomaly-viewer model="…">: a photo in, verdict and heatmap out.

import { Detector } from './dinomaly.js';

/** @import {DeviceName} from './dinomaly.js' */
/** @import {BrowserPhoto, Result} from './dinomaly.js' */

const STYLE = `
  :host { display: block; max-width: 40rem; font: inherit; }
  :host([hidden]) { display: none; }
  label.drop { display: block; padding: 1rem; border: 2px dashed currentcolor; border-radius: .5rem; text-align: center; cursor: pointer; }
  label.drop:focus-within, label.drop.over { outline: 3px solid Highlight; outline-offset: 2px; }
  input[type=file] { position: absolute; width: 1px; height: 1px; opacity: 0; }
  progress { width: 100%; }
  canvas { display: block; width: 100%; margin-block: .5rem; border-radius: .5rem; }
  [hidden] { display: none !important; }
`;

const CONTENT = `
  <label class="drop" part="drop"><span>Choose a photo, or drop one here</span><input type="file" accept="image/*"></label>
  <progress part="progress" aria-label="Loading the detector" hidden></progress>
  <p role="status" part="status"></p>
  <p role="alert" part="error"></p>
  <canvas role="img" part="picture" hidden></canvas>
  <label class="opacity" part="opacity" hidden>Opacity of the heatmap <input type="range" min="0" max="1" step="0.05"></label>
`;

const VERDICTS = { good: 'Good', defective: 'Defective', unknown: 'Unlike anything that the model knows' };

/**
 * The element. Attributes: `model` (address of a model's folder or of a site), `device` (`auto`, `gpu`, `cpu`), `opacity` of the heatmap (0 to 1).
 * Events: `progress` while the model is loaded, `result` and `error`; their `detail` is a {@link import('./loaded.js').LoadProgress}, a
 * {@link Result}, an `Error`.
 */
export class DinomalyViewer extends HTMLElement {
  static observedAttributes = ['model', 'device', 'opacity'];
  /** @type {Promise<Detector> | undefined} */
  #detector;
  #stop = new AbortController();
  /** Number of the last photo: the answers to others come too late. */
  #last = 0;
  /** @type {{picture: ImageBitmap, result: Result} | undefined} */
  #shown;
  #root;

  constructor() {
    super();
    this.#root = this.attachShadow({ mode: 'open' });
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [style];
    this.#root.innerHTML = CONTENT;
    const files = this.#part('input[type=file]', HTMLInputElement);
    files.addEventListener('change', () => {
      const file = files.files?.[0];
      // So that the same photo can be chosen again.
      files.value = '';
      if (file) void this.inspect(file).catch(() => {});
    });
    this.#part('input[type=range]', HTMLInputElement).addEventListener('input', (event) => {
      this.opacity = Number(/** @type {HTMLInputElement} */ (event.target).value);
    });
    this.addEventListener('dragover', (event) => this.#over(event, true));
    this.addEventListener('dragleave', (event) => this.#over(event, false));
    this.addEventListener('drop', (event) => {
      this.#over(event, false);
      const file = event.dataTransfer?.files[0];
      if (file) void this.inspect(file).catch(() => {});
    });
  }

  /** Address of the model. */
  get model() {
    return this.getAttribute('model') ?? '';
  }

  set model(value) {
    this.setAttribute('model', value);
  }

  /** @returns {DeviceName} */
  get device() {
    return /** @type {DeviceName} */ (this.getAttribute('device') ?? 'auto');
  }

  set device(value) {
    this.setAttribute('device', value);
  }

  /** Opacity of the heatmap. @returns {number} from 0 to 1 */
  get opacity() {
    const given = Number(this.getAttribute('opacity') ?? 0.55);
    return given >= 0 && given <= 1 ? given : 0.55;
  }

  set opacity(value) {
    this.setAttribute('opacity', String(value));
  }

  connectedCallback() {
    // Properties that were set before the element was defined.
    const given = /** @type {Record<string, any>} */ (/** @type {unknown} */ (this));
    for (const name of DinomalyViewer.observedAttributes.filter((name) => Object.hasOwn(this, name))) {
      const value = given[name];
      delete given[name];
      given[name] = value;
    }
    this.#load();
  }

  disconnectedCallback() {
    this.#close();
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} now
   */
  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === 'opacity') this.#draw();
    else if (this.isConnected) this.#load();
  }

  /**
   * Inspects a photo and shows it, as if it was chosen.
   * @param {Blob} photo
   * @returns {Promise<Result>}
   */
  async inspect(photo) {
    this.#last += 1;
    const mine = this.#last;
    this.#say('Inspecting the photo …');
    try {
      if (!this.#detector) throw new Error('no model: set the attribute model to the address of a model');
      const result = await (await this.#detector).detect(photo);
      // The photo as the browser shows it; else the heatmap is shown alone.
      const picture = await createImageBitmap(photo).catch(() => createImageBitmap(new ImageData(result.width, result.height)));
      if (mine !== this.#last) {
        picture.close();
        return result;
      }
      this.#show(result, picture);
      this.dispatchEvent(new CustomEvent('result', { detail: result }));
      return result;
    } catch (error) {
      if (mine === this.#last) this.#fail(error);
      throw error;
    }
  }

  #load() {
    this.#close();
    if (!this.model) return this.#say('');
    const bar = this.#part('progress', HTMLProgressElement);
    bar.hidden = false;
    bar.removeAttribute('value');
    this.#say('Loading the detector …');
    const { signal } = this.#stop;
    const last = this.#last;
    this.#detector = this.#opened(signal, bar);
    this.#detector.then(() => null, (error) => error).then((error) => {
      if (signal.aborted) return;
      bar.hidden = true;
      // An inspection that waits for the model tells how it ends.
      if (last !== this.#last) return;
      if (error) this.#fail(error);
      else this.#say('Ready for a photo.');
    });
  }

  /**
   * @param {AbortSignal} signal
   * @param {HTMLProgressElement} bar
   */
  async #opened(signal, bar) {
    // More attributes may change before.
    await null;
    signal.throwIfAborted();
    return Detector.load(this.model, {
      device: this.device,
      signal,
      onProgress: (progress) => {
        bar.value = progress.loaded / progress.total;
        this.dispatchEvent(new CustomEvent('progress', { detail: progress }));
      },
    });
  }

  #close() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#last += 1;
    this.#detector?.then((detector) => detector.close(), () => {});
    this.#detector = undefined;
    this.#part('progress', HTMLProgressElement).hidden = true;
    this.#clear();
  }

  /** Takes the picture away: it is of another model, or its photo is no longer the last. */
  #clear() {
    this.#shown?.picture.close();
    this.#shown = undefined;
    const canvas = this.#part('canvas', HTMLCanvasElement);
    canvas.hidden = true;
    canvas.removeAttribute('aria-label');
    this.#part('label.opacity', HTMLLabelElement).hidden = true;
  }

  /**
   * @param {Result} result
   * @param {ImageBitmap} picture
   */
  #show(result, picture) {
    this.#shown?.picture.close();
    this.#shown = { picture, result };
    const { verdict, score, threshold } = result;
    const product = result.class === null || verdict === 'unknown' ? '' : ` (${result.class})`;
    const said = `${VERDICTS[verdict]}${product}: score ${score.toPrecision(3)}, threshold ${threshold.toPrecision(3)}.`;
    this.#say(said);
    const canvas = this.#part('canvas', HTMLCanvasElement);
    canvas.hidden = false;
    canvas.setAttribute('aria-label', `The photo with its heatmap. ${said}`);
    this.#part('label.opacity', HTMLLabelElement).hidden = false;
    this.#draw();
  }

  #draw() {
    this.#part('input[type=range]', HTMLInputElement).value = String(this.opacity);
    if (!this.#shown) return;
    const { picture, result } = this.#shown;
    const canvas = this.#part('canvas', HTMLCanvasElement);
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.getContext('2d')?.drawImage(picture, 0, 0);
    result.draw(canvas, { opacity: this.opacity });
  }

  /** @param {string} text */
  #say(text) {
    this.#part('[role=status]', HTMLElement).textContent = text;
    this.#part('[role=alert]', HTMLElement).textContent = '';
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#clear();
    this.#say('');
    this.#part('[role=alert]', HTMLElement).textContent = /** @type {Error} */ (error).message;
    this.dispatchEvent(new CustomEvent('error', { detail: error }));
  }

  /**
   * @param {DragEvent} event
   * @param {boolean} over
   */
  #over(event, over) {
    event.preventDefault();
    this.#part('label.drop', HTMLElement).classList.toggle('over', over);
  }

  /**
   * @template {Element} T
   * @param {string} selector
   * @param {new () => T} type
   * @returns {T}
   */
  #part(selector, type) {
    const found = this.#root.querySelector(selector);
    if (!(found instanceof type)) throw new Error(`the element has no ${selector}`);
    return found;
  }
}

if (!customElements.get('dinomaly-viewer')) customElements.define('dinomaly-viewer', DinomalyViewer);
