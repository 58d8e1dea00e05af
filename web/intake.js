// @ts-check
// Intake of photos: dropped anywhere on the page, chosen, or pasted.

import { byId } from './dom.js';

/**
 * @param {(files: File[]) => void} take photos to inspect
 * @param {(files: File[]) => void} takeGood photos of good parts, dropped on the panel that makes a detector
 */
export function listen(take, takeGood) {
  const zone = byId('intake', HTMLLabelElement);
  const input = byId('files', HTMLInputElement);

  input.addEventListener('change', () => {
    take([...(input.files ?? [])]);
    // Allows the same file to be chosen again.
    input.value = '';
  });

  // A drag enters and leaves elements of the page all the time; their sum tells whether it is over the page.
  let depth = 0;
  const hover = (/** @type {number} */ change) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle('over', depth > 0);
  };
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files') ?? false;
  addEventListener('dragenter', (event) => hasFiles(event) && hover(1));
  addEventListener('dragleave', (event) => hasFiles(event) && hover(-1));
  addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
  addEventListener('drop', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    hover(-depth);
    const good = event.target instanceof Element && event.target.closest('#own');
    (good ? takeGood : take)([...(event.dataTransfer?.files ?? [])]);
  });

  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
}
