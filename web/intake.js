// @ts-check
// How photos come in: dropped anywhere on the page, chosen, or pasted.

import { byId } from './dom.js';

/** @param {(files: File[]) => void} take */
export function listen(take) {
  const zone = byId('intake', HTMLLabelElement);
  const input = byId('files', HTMLInputElement);

  input.addEventListener('change', () => {
    take([...(input.files ?? [])]);
    // The same file may be chosen again.
    input.value = '';
  });

  // Elements inside the page end and begin a drag all the time; only the sum tells whether it is over the page.
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
    take([...(event.dataTransfer?.files ?? [])]);
  });

  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
}
