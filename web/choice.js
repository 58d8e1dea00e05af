// @ts-check
// The choice of a model: the site's, those made here, and those opened from a zip.

import { byId, make, shown } from './dom.js';
import { forgetModel, goodPhotosOf, keepGoodPhotos, keepModel, keptModels, lastChosen, rememberChosen } from './kept-models.js';
import { offerUndo } from './undo.js';

/** @import {DeviceChoice, Index, ModelEntry} from './types.js' */
/** @import {Own} from './own.js' */

const ORIGINS = { here: 'made here', file: 'from a zip' };

export class Choice {
  /** Models that are not on the site. @type {ModelEntry[]} */
  #kept = [];
  /** Models from a zip that were not opened yet. @type {Set<string>} */
  #new = new Set();
  /** @type {Own | undefined} */
  #own;
  /** @type {Promise<Own> | undefined} */
  #ownLoading;
  #list = byId('model', HTMLSelectElement);
  #forget = byId('forget', HTMLButtonElement);

  /**
   * @param {Index} index
   * @param {() => DeviceChoice} device
   * @param {() => void} open called when another model is chosen by something else than the list
   * @param {(files: File[], place: Element) => void} receive takes photos of good parts that were chosen at this place in the panel
   */
  constructor(index, device, open, receive) {
    this.index = index;
    this.device = device;
    this.open = open;
    this.receive = receive;
    byId('own', HTMLDetailsElement).addEventListener('toggle', () => this.own().catch(() => {}));
    this.#forget.addEventListener('click', () => void this.#forgetChosen());
    this.#offer();
  }

  /** The panel that makes a detector; loaded when it is needed. */
  own() {
    this.#ownLoading ??= import('./own.js').then(({ Own }) => {
      this.#own = new Own(this.index, () => this.models, this.device, (model, old) => this.#use(model, old), this.receive);
      return this.#own;
    }, () => {
      this.#ownLoading = undefined;
      const failed = 'the panel could not be loaded: check the connection, and open it again';
      byId('own-status', HTMLParagraphElement).textContent = failed;
      throw new Error(failed);
    });
    return this.#ownLoading;
  }

  /** Whether there are photos of good parts that no model was made of. */
  get hasUnused() {
    return this.#own?.unused === true;
  }

  get models() {
    return [...this.index.models, ...this.#kept];
  }

  /** The chosen model; undefined if there is none. */
  get chosen() {
    const chosen = this.models.find(({ id }) => id === this.#list.value);
    this.#forget.hidden = !chosen?.origin;
    rememberChosen(chosen?.origin ? chosen.id : null);
    if (chosen?.origin === 'here') this.#follow(chosen).catch(() => {});
    return chosen;
  }

  /**
   * Shows the photos that a model was made of, if they were kept: then it can learn.
   * @param {ModelEntry} model
   */
  async #follow(model) {
    await (await this.own()).follow(model);
    document.documentElement.dataset.made = this.learns ? 'here' : '';
  }

  /** Whether a photo that the chosen model accuses can be added to its good ones. */
  get learns() {
    const chosen = this.models.find(({ id }) => id === this.#list.value);
    return chosen !== undefined && this.#own?.learns(chosen) === true;
  }

  /** Lists the models that are kept on this device, and chooses the one that was chosen last. */
  async restore() {
    const last = lastChosen();
    // Without storage there are none.
    this.#kept = await keptModels().catch(() => []);
    this.#offer();
    const again = this.#kept.find(({ id }) => id === last);
    if (!again) return;
    this.#list.value = again.id;
    if (again.origin === 'here') await this.#follow(again).catch(() => {});
  }

  /**
   * Opens a model that came as a zip. It is kept once it has opened.
   * @param {ModelEntry} model
   */
  add(model) {
    this.#new.add(model.id);
    this.#use(model, this.#kept.find(({ id }) => id === model.id));
  }

  /**
   * Keeps a model that has opened.
   * @param {ModelEntry} model
   */
  async keep(model) {
    if (!this.#new.delete(model.id)) return;
    await keepModel(model).catch(() => {
      const text = `This browser does not keep the model ${model.name}: it is gone with this page.`;
      byId('arrived', HTMLParagraphElement).textContent = shown(text);
    });
  }

  /**
   * @param {ModelEntry} model
   * @param {ModelEntry | undefined} old the one that it replaces
   */
  #use(model, old) {
    this.#kept = [...this.#kept.filter(({ id }) => id !== old?.id), model];
    this.#offer();
    this.#list.value = model.id;
    this.open();
  }

  async #forgetChosen() {
    const model = this.chosen;
    if (!model?.origin) return;
    const good = await goodPhotosOf(model.id).catch(() => undefined);
    await forgetModel(model.id).catch(() => {});
    this.#own?.forgot(model);
    this.#kept = this.#kept.filter(({ id }) => id !== model.id);
    this.#offer();
    this.open();
    this.#list.focus();
    offerUndo(`The model ${model.name} was forgotten.`, async () => {
      if (good) await keepGoodPhotos(model.id, good).catch(() => {});
      this.#own?.recalled(model);
      this.add(model);
    });
  }

  #offer() {
    const before = this.#list.value;
    this.#list.replaceChildren(...this.models.map(({ id, name, origin }) => {
      const option = make('option', { value: id });
      option.textContent = shown(origin ? `${name} (${ORIGINS[origin]})` : name);
      return option;
    }));
    if (this.models.some(({ id }) => id === before)) this.#list.value = before;
    this.#list.disabled = this.models.length < 2;
    this.#own?.offerEncoders();
  }
}
