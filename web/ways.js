// @ts-check
// What a visitor can do where the page does not get on: buttons below the status.

import { byId, make } from './dom.js';
import { forgetAll } from './visits.js';

/** What the buttons do that another part of the page knows. @typedef {{again: () => void, processor?: () => void}} Ways */

const place = byId('ways', HTMLDivElement);

/** @type {(() => void) | undefined} */
let again;
// Without a connection nobody has to press the button for what comes by itself.
addEventListener('online', () => again?.());

/**
 * Offers the ways on.
 * @param {Ways} ways without `processor` if there is no other device
 * @param {boolean} unreachable whether it failed for want of a connection: then it is tried again once there is one
 */
export function offerWays(ways, unreachable) {
  again = unreachable ? ways.again : undefined;
  const button = (/** @type {string} */ textContent, /** @type {() => void} */ act) => {
    const made = make('button', { type: 'button', textContent });
    made.addEventListener('click', act);
    return made;
  };
  place.replaceChildren(button('Try again', ways.again));
  if (ways.processor) place.append(button('Go on with the processor', ways.processor));
  place.append(button('Download the detector again', () => void forgetAll()));
  place.hidden = false;
}

/** Takes the buttons away. The focus stays near them. */
export function withdrawWays() {
  again = undefined;
  if (place.contains(document.activeElement)) byId('device', HTMLSelectElement).focus();
  place.hidden = true;
  place.replaceChildren();
}
