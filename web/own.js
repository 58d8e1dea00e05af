// @ts-check
// The panel for a detector of the visitor's own: products, their photos of good parts, and the model made of them.

import { byId, make, sentence, shown } from './dom.js';
import { forgetModel, goodPhotosOf, keepGoodPhotos, keepModel } from './kept-models.js';
import { makeModel } from './maker.js';
import { packModel } from './model-zip.js';
import { Products } from './products.js';
import { save } from './save.js';
import { offerUndo } from './undo.js';

/** @import {DeviceChoice, EncoderEntry, Index, ModelEntry} from './types.js' */
/** @import {GoodPhotos} from './kept-models.js' */

/** Names of the encoder's files, which tell its content. @param {EncoderEntry} entry */
const encoderOf = ({ files, made }) => Object.keys(made ?? files).filter((name) => name.startsWith('encoder-')).join(' ');

/** The figures: tests/BENCHMARKS.md, a few good photos, memory subspace. */
const BETTER = 'A better one tells more defective photos from good ones: on four real products the small encoder of the demo reaches an AUROC of 75 %, DeiT-Ti 84 %. A site gets one by dinomaly site --encoder NAME.';

export class Own {
  /** The model of the present photos. @type {ModelEntry | undefined} */
  #model;
  #busy = false;
  /** Whether there are photos that no model was made of. */
  unused = false;
  /** Number of changes of the photos. */
  #edits = 0;
  /** Whether to make the detector again after the present run. */
  #again = false;
  /** Photos that the present model was made of. @type {GoodPhotos[]} */
  #used = [];
  /** Id of a forgotten model of the present photos. @type {string | undefined} */
  #forgotten;
  /** What has an encoder, by the encoder's files. @type {Map<string, {entry: EncoderEntry, text: string}>} */
  #sources = new Map();
  #panel = byId('own', HTMLDetailsElement);
  #make = byId('own-make', HTMLButtonElement);
  #save = byId('own-save', HTMLButtonElement);
  #new = byId('own-new', HTMLButtonElement);
  #consent = byId('own-consent', HTMLInputElement);
  #encoders = byId('own-encoder', HTMLSelectElement);
  #bar = byId('own-progress', HTMLProgressElement);
  #status = byId('own-status', HTMLParagraphElement);
  #products = new Products(byId('own-products', HTMLUListElement), (files, product) => this.receive(files, product.element), () => this.#edited());

  /**
   * @param {Index} index
   * @param {() => ModelEntry[]} models that the page offers
   * @param {() => DeviceChoice} device
   * @param {(model: ModelEntry, old: ModelEntry | undefined) => void} use called with each model that was made, and the one that it replaces
   * @param {(files: File[], place: Element) => void} receive takes photos that were chosen for a product
   */
  constructor(index, models, device, use, receive) {
    this.index = index;
    this.models = models;
    this.device = device;
    this.use = use;
    this.receive = receive;
    this.#make.addEventListener('click', () => void this.#work());
    this.#save.addEventListener('click', () => void this.#keep());
    this.#new.addEventListener('click', () => this.#startAnew());
    const another = byId('own-another', HTMLButtonElement);
    another.disabled = false;
    another.addEventListener('click', () => {
      this.#products.another().input.select();
      this.#show();
    });
    this.#consent.addEventListener('change', () => void this.#keepPhotos());
    this.#encoders.addEventListener('change', () => this.#describeEncoder());
    this.offerEncoders();
    this.#show();
  }

  /** Lists the encoders: the site's own, then those of models; each once. */
  offerEncoders() {
    const before = this.#encoders.value;
    const encoders = this.index.encoders.map((entry) => ({ entry, text: entry.name }));
    const models = this.models().map((entry) => ({ entry, text: `that of the model ${entry.name}` }));
    this.#sources = new Map([...encoders, ...models].reverse().map(({ entry, text }) => [encoderOf(entry), { entry, text }]));
    const options = [...this.#sources].reverse().map(([value, { text }]) => make('option', { value, textContent: text }));
    this.#encoders.replaceChildren(...options);
    if (this.#sources.has(before)) this.#encoders.value = before;
    this.#encoders.disabled = options.length < 2;
    this.#describeEncoder();
  }

  /** The entry whose encoder is used. */
  get #source() {
    return this.#sources.get(this.#encoders.value)?.entry;
  }

  #describeEncoder() {
    const source = this.#source;
    // That of a model is there with the model.
    const size = source && this.index.encoders.includes(source) ? `This encoder is a download of ${(source.bytes / 1e6).toFixed(0)} MB. ` : '';
    byId('own-about', HTMLParagraphElement).textContent = `${size}${BETTER}`;
  }

  /**
   * Adds photos of good parts.
   * @param {File[]} files
   * @param {Element | null} place where they were dropped or chosen
   */
  add(files, place = null) {
    this.#panel.open = true;
    const twice = this.#products.at(place).add(files);
    if (twice > 0) this.#say(`${twice} of these photos ${twice === 1 ? 'was' : 'were'} there already.`);
    this.#edited();
  }

  /**
   * Whether a model can be made again with one more photo.
   * @param {ModelEntry} model
   */
  learns(model) {
    return model.id === this.#model?.id;
  }

  /**
   * Adds a photo that the detector accused wrongly, and makes the detector again.
   * @param {File} file
   * @param {string | null} product
   */
  forgive(file, product) {
    this.#panel.open = true;
    if (!this.#model) return this.#say('The detector in this panel is a new one: drop the photo here to add it.');
    const known = product !== null && this.#products.has(product);
    if (!known && this.#products.count > 1) return this.#say('Choose the product of the photo first, then say again that it is good.');
    this.#products.at(product).add([file]);
    this.#edited();
    this.#again = this.#busy;
    void this.#work();
  }

  /**
   * Shows the photos of a model that was chosen, if they were kept.
   * @param {ModelEntry} model
   */
  async follow(model) {
    if (model.origin !== 'here' || this.learns(model) || this.#busy) return;
    const kept = await goodPhotosOf(model.id).catch(() => undefined);
    if (!kept || this.unused || (this.#products.photos.length > 0 && !this.#model)) return;
    this.#model = model;
    this.#used = kept;
    this.#consent.checked = true;
    this.#encoders.value = encoderOf(model);
    this.#describeEncoder();
    this.#products.show(kept);
    this.unused = false;
    this.#say('');
  }

  /**
   * A model was forgotten. Its photos stay in the panel until the page is left.
   * @param {ModelEntry} model
   */
  forgot(model) {
    if (!this.learns(model)) return;
    this.#model = undefined;
    this.#forgotten = model.id;
    this.#show();
  }

  /**
   * A forgotten model is there again.
   * @param {ModelEntry} model
   */
  recalled(model) {
    if (this.#forgotten !== model.id || this.#model) return;
    this.#model = model;
    this.#show();
  }

  /** Empties the panel for another detector. */
  #startAnew() {
    const before = { model: this.#model, used: this.#used, unused: this.unused, photos: this.#products.photos };
    this.#model = undefined;
    this.#say('');
    this.#products.show([]);
    this.#products.at(null).input.focus();
    document.documentElement.dataset.made = '';
    if (before.photos.length === 0) return;
    offerUndo('The photos of good parts were taken out of the panel.', () => {
      this.#products.show(before.photos);
      this.#model = before.model;
      this.#used = before.used;
      this.unused = before.unused;
      this.#show();
    });
  }

  #edited() {
    this.#edits += 1;
    this.unused = this.#products.photos.length > 0;
    this.#show();
  }

  #show() {
    const photos = this.#products.photos.reduce((sum, { photos }) => sum + photos.length, 0);
    this.#make.disabled = this.#busy || photos === 0;
    this.#make.textContent = this.#model ? 'Make it again' : 'Make the detector';
    this.#save.hidden = !this.#model;
    this.#new.hidden = !this.#model;
    this.#new.disabled = this.#busy;
  }

  /** @param {string} text */
  #say(text) {
    this.#status.textContent = shown(text);
  }

  async #work() {
    const source = this.#source;
    if (this.#busy || !source) return;
    const unnamed = this.#products.unnamed;
    if (unnamed) {
      this.#say(unnamed.name ? `Two products are called ${unnamed.name}: give one another name.` : 'Name the product first.');
      unnamed.input.focus();
      return;
    }
    this.#busy = true;
    this.#show();
    this.#bar.hidden = false;
    this.#bar.removeAttribute('value');
    this.#say('Making the detector…');
    const edits = this.#edits;
    try {
      const products = this.#products.photos;
      const { doubts, memory, ...model } = await makeModel(this.index, source, this.device(), products, ({ phase, loaded, total }) => {
        if (phase === 'encode') this.#bar.value = loaded / total;
      });
      const old = this.#model;
      this.#model = model;
      this.#used = products;
      this.unused = this.#edits !== edits;
      const kept = await keepModel(model).then(() => '', () => ' This browser does not keep it: save it, or it is gone with this page.');
      // If the new one is not kept, the old one stays.
      if (old && old.id !== model.id && kept === '') await forgetModel(old.id).catch(() => {});
      await this.#keepPhotos();
      const sum = products.reduce((sum, { photos }) => sum + photos.length, 0);
      const of = (/** @type {string} */ product) => (products.length > 1 ? ` of ${product}` : '');
      const limits = doubts.map(({ product, doubt }) => ` About the threshold${of(product)}: ${doubt}.`).join('');
      this.#say(`Ready: ${memory} of ${sum === 1 ? '1 good photo' : `${sum} good photos`}.${limits}${kept} Drop photos to inspect.`);
      this.use(model, old);
    } catch (error) {
      this.#say(`No detector was made: ${sentence(error)}`);
    }
    this.#busy = false;
    this.#bar.hidden = true;
    this.#show();
    if (!this.#again) return;
    this.#again = false;
    void this.#work();
  }

  async #keepPhotos() {
    if (!this.#model) return;
    try {
      await keepGoodPhotos(this.#model.id, this.#consent.checked ? this.#used : undefined);
    } catch {
      if (this.#consent.checked) this.#say('The photos were not kept: this browser keeps nothing for the page, or the device is full.');
    }
  }

  async #keep() {
    if (!this.#model) return;
    try {
      save(await packModel(this.#model));
    } catch (error) {
      this.#say(`The model was not saved: ${sentence(error)}`);
    }
  }
}
