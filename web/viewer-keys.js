// @ts-check
// Keys of the large view.

import { byId } from './dom.js';

/** @import {Viewer} from './viewer.js' */

/** Distance that a key moves the photo, in CSS pixels. */
const STEP = 60;

/**
 * @param {Viewer} viewer
 * @param {HTMLDialogElement} dialog
 */
export function listenToKeys(viewer, dialog) {
  /** @type {Record<string, () => void>} */
  const keys = {
    '+': () => viewer.zoom(1.5),
    '=': () => viewer.zoom(1.5),
    '-': () => viewer.zoom(1 / 1.5),
    0: () => viewer.fit(),
    1: () => viewer.pixels(),
    v: () => viewer.nextMode(),
    g: () => viewer.label('good'),
    b: () => viewer.label('bad'),
    '?': () => viewer.help(),
  };
  /** @type {Record<string, [number, number]>} */
  const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  dialog.addEventListener('keydown', (event) => {
    const { key, shiftKey, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || !(target instanceof Element)) return;
    const arrow = arrows[key];
    if (key === ' ') {
      // A button is pressed with it.
      if (target.closest('button, input, select')) return;
      viewer.hidden = true;
    } else if (arrow) {
      // Lists and sliders have their own use for arrows.
      if (target.closest('input, select')) return;
      if (shiftKey) viewer.move(STEP * arrow[0], STEP * arrow[1]);
      else if (arrow[0] !== 0) viewer.step(arrow[0] < 0 ? 1 : -1);
      else return;
    } else {
      const act = keys[key];
      if (!act || (target.closest('select') && /^[a-z]$/.test(key))) return;
      act();
    }
    event.preventDefault();
  });
  dialog.addEventListener('keyup', ({ key }) => {
    if (key === ' ') viewer.hidden = false;
  });
  dialog.addEventListener('focusout', () => (viewer.hidden = false));
  dialog.addEventListener('cancel', (event) => {
    if (!viewer.helping) return;
    event.preventDefault();
    viewer.help(false);
  });

  const hide = byId('viewer-hide', HTMLButtonElement);
  hide.addEventListener('pointerdown', () => (viewer.hidden = true));
  for (const end of ['pointerup', 'pointercancel', 'pointerleave']) hide.addEventListener(end, () => (viewer.hidden = false));
  hide.addEventListener('keydown', ({ key }) => {
    if (key === ' ' || key === 'Enter') viewer.hidden = true;
  });
  hide.addEventListener('keyup', () => (viewer.hidden = false));
  // After a click the arrows change photos again, not the mode.
  for (const mode of dialog.querySelectorAll('.modes label')) {
    mode.addEventListener('pointerup', () => setTimeout(() => byId('viewer-canvas', HTMLCanvasElement).focus()));
  }
}
