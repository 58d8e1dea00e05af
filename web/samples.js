// @ts-check
// Photos to try. Their thumbnails are one file; a sample itself is fetched when it is chosen.

import { byId, make, sentence, shown } from './dom.js';
import { Store, obtain } from './download.js';

/** @import {Index, Label, Sample, Thumbnails} from './types.js' */

/** How the gallery calls what a sample is. @type {Record<string, Label>} */
const LABELS = { good: 'good', defective: 'bad', unknown: null };

/**
 * Offers the site's samples.
 * @param {Index} index
 * @param {(file: File, product: string | null, label: Label) => void} take
 */
export function offerSamples({ samples, thumbnails }, take) {
  const status = byId('samples-status', HTMLParagraphElement);
  const items = samples.map((sample, i) => {
    const picture = thumbnails ? cutOut(thumbnails, i, samples.length) : make('img', { src: sample.path, alt: '', loading: 'lazy' });
    const button = make('button', { type: 'button' }, picture, make('span', { textContent: sample.name }));
    button.addEventListener('click', async () => {
      status.textContent = '';
      try {
        take(await fetchSample(sample), sample.class, LABELS[sample.truth ?? 'unknown']);
      } catch (error) {
        status.textContent = shown(sentence(error));
      }
    });
    return make('li', {}, button);
  });
  byId('samples-list', HTMLUListElement).replaceChildren(...items);
  byId('samples', HTMLElement).hidden = items.length === 0;
}

/** @param {Sample} sample */
async function fetchSample({ name, path }) {
  const url = new URL(path, document.baseURI).href;
  const bytes = await obtain(await Store.open(), url, `sample ${name}`, () => {}, (content) => content);
  return new File([bytes], name);
}

/**
 * One of the thumbnails.
 * @param {Thumbnails} thumbnails
 * @param {number} i
 * @param {number} count
 */
function cutOut({ path, columns }, i, count) {
  const across = Math.min(columns, count);
  const down = Math.ceil(count / columns);
  const picture = make('span', { className: 'thumbnail' });
  // Percent count from the first to the last place.
  const place = (/** @type {number} */ at, /** @type {number} */ places) => `${(100 * at) / Math.max(1, places - 1)}%`;
  Object.assign(picture.style, {
    backgroundImage: `url(${JSON.stringify(new URL(path, document.baseURI).href)})`,
    backgroundSize: `${100 * across}% ${100 * down}%`,
    backgroundPosition: `${place(i % columns, across)} ${place(Math.floor(i / columns), down)}`,
  });
  return picture;
}
