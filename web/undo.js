// @ts-check
// What was removed can come back: one line with a button, also by Ctrl+Z, until something else is removed or the visitor closes it.

import { byId, make } from './dom.js';

addEventListener('keydown', (event) => {
  const writing = event.target instanceof Element && event.target.closest('input[type="text"], textarea');
  if (event.key !== 'z' || !(event.ctrlKey || event.metaKey) || event.shiftKey || writing) return;
  const button = document.querySelector('#undo button');
  if (!(button instanceof HTMLButtonElement)) return;
  event.preventDefault();
  button.click();
});

/**
 * Says what was removed, and offers to bring it back.
 * @param {string} text
 * @param {() => void} undo
 */
export function offerUndo(text, undo) {
  const line = byId('undo', HTMLDivElement);
  const button = make('button', { type: 'button', textContent: 'Undo', title: 'Undo (Ctrl+Z)' });
  button.setAttribute('aria-keyshortcuts', 'Control+Z Meta+Z');
  const close = make('button', { type: 'button', className: 'undo-close', textContent: '×' });
  close.setAttribute('aria-label', 'Close');
  const said = make('span', { textContent: text });
  const end = () => {
    // Focus goes where it would if the line had never been there.
    const focused = line.contains(document.activeElement);
    line.hidden = true;
    line.replaceChildren();
    if (focused) byId('files', HTMLInputElement).focus();
  };
  button.addEventListener('click', () => {
    end();
    undo();
  });
  close.addEventListener('click', end);
  line.hidden = false;
  line.replaceChildren(said, button, close);
}
