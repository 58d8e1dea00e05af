// @ts-check
// Zooming and moving a view with wheel, fingers and mouse.

/** @import {View} from './view.js' */

/** Zoom of a wheel's step of one pixel: a notch of 100 pixels zooms by a third. */
const WHEEL = 0.003;

/**
 * @param {View} view
 * @param {(at: {x: number, y: number} | null) => void} pointed called with the pointer's place on the canvas
 */
export function listenToGestures(view, pointed) {
  const { canvas } = view;
  /** Places of the fingers, or of the mouse while its button is down. @type {Map<number, {x: number, y: number}>} */
  const held = new Map();
  const place = (/** @type {MouseEvent} */ { offsetX: x, offsetY: y }) => ({ x, y });

  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, place(event));
  });
  canvas.addEventListener('pointermove', (event) => {
    const at = place(event);
    const before = held.get(event.pointerId);
    if (before && held.size === 1) view.move(at.x - before.x, at.y - before.y);
    if (before && held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)?.[1] ?? before;
      const middle = (/** @type {{x: number, y: number}} */ a) => ({ x: (a.x + other.x) / 2, y: (a.y + other.y) / 2 });
      const apart = (/** @type {{x: number, y: number}} */ a) => Math.hypot(a.x - other.x, a.y - other.y) || 1;
      const [from, to] = [middle(before), middle(at)];
      view.zoom(apart(at) / apart(before), from);
      view.move(to.x - from.x, to.y - from.y);
    }
    if (before) held.set(event.pointerId, at);
    pointed(at);
  });
  for (const end of /** @type {const} */ (['pointerup', 'pointercancel'])) {
    canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  }
  canvas.addEventListener('pointerleave', () => pointed(null));
  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      // Some mice scroll lines; trackpads pinch in small steps with the control key.
      const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1) * (event.ctrlKey ? 3 : 1);
      view.zoom(Math.exp(-pixels * WHEEL), place(event));
      pointed(place(event));
    },
    { passive: false },
  );
  canvas.addEventListener('dblclick', (event) => {
    if (view.scale >= 1) view.fit();
    else view.zoom(1 / view.scale, place(event));
  });
}
