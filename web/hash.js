// @ts-check
// What identifies files and models.

/**
 * What identifies a model: the beginning of its manifest's hash, as for models of the site. Without https chance has to do.
 * @param {Blob} manifest
 */
export async function identityOf(manifest) {
  return (await sha256(manifest))?.slice(0, 16) ?? crypto.getRandomValues(new Uint32Array(2)).join('-');
}

/**
 * SHA-256 in hexadecimal digits, if the browser computes it for this page: without https it does not, and the detector's own check
 * of each file has to do.
 * @param {Blob} content
 */
export async function sha256(content) {
  if (!crypto.subtle) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', await content.arrayBuffer()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
