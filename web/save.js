// @ts-check
// Files for the visitor to keep.

/**
 * Offers a file as a download.
 * @param {File} file
 */
export function save(file) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = file.name;
  link.click();
  // Not at once: the browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
