// @ts-check
// The choice of a model: the site's, those made here, and those opened from a zip.

import { byId, make, shown } from './dom.js';
import { keepModel, keptModels, lastChosen, rememberChosen } from './kept-models.js';
import { Own } from './own.js';
import { offerUndo } from './undo.js';

/** @import {DeviceChoice, Index, ModelEntry} from './types.js' */

const ORIGINS = { here: 'made here', file: 'from a zip' };

export class Choice {
  /** Models that are not on the site. @type {ModelEntry[]} */
  #kept = [];
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
    this.open = open;
    this.own = new Own(index, () => this.models, device, (model, old) => this.#use(model, old), receive);
    this.#forget.addEventListener('click', () => void this.#forgetChosen());
    this.#offer();
  }

  get models() {
    return [...this.index.models, ...this.#kept];
  }

  /** The chosen model; undefined if there is none. */
  get chosen() {
    const chosen = this.models.find(({ id }) => id === this.#list.value);
    this.#forget.hidden = !chosen?.origin;
    rememberChosen(chosen?.origin ? chosen.id : null);
    if (chosen) void this.own.follow(chosen);
    return chosen;
  }

  /** Whether a photo that the chosen model accuses can be added to its good ones. */
  get learns() {
    const chosen = this.models.find(({ id }) => id === this.#list.value);
    return chosen !== undefined && this.own.learns(chosen);
  }

  /** Lists the models that are kept on this device, and chooses the one that was chosen last. */
  async restore() {
    const last = lastChosen();
    // Without storage there are none.
    this.#kept = await keptModels().catch(() => []);
    this.#offer();
    const again = this.#kept.find(({ id }) => id === last);
    if (again) {
      this.#list.value = again.id;
      await this.own.follow(again);
    }
  }

  /**
   * Opens a model that came as a zip, and keeps it.
   * @param {ModelEntry} model
   */
  async add(model) {
    const before = this.#kept.find(({ id }) => id === model.id);
    this.#use(model, before);
    await keepModel(model).catch(() => {});
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
    await this.own.forget(model);
    this.#kept = this.#kept.filter(({ id }) => id !== model.id);
    this.#offer();
    this.open();
    this.#list.focus();
    offerUndo(`The model ${model.name} was forgotten.`, () => void this.add(model));
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
    this.own.offerEncoders();
  }
}
