// @ts-check
// Where a model is: its folder, or a site that has it.

import { fetchBytes } from './download.js';
import { VERSION, parse, readIndex } from './site.js';

/** @import {EncoderEntry, Index, ModelEntry} from './types.js' */
/** @import {ModelHost} from './loaded.js' */

/** The server has no such file. */
const MISSING = [403, 404, 410];

/**
 * A model, and all whose files are beside its own. Their paths are whole addresses.
 * @typedef {{model: ModelEntry} & Pick<Index, 'models' | 'encoders'>} Found
 */

/**
 * Finds a model at an address.
 * @param {ModelHost} host
 * @param {string | URL} where
 * @param {string} [name] of the model, if the site has several
 * @returns {Promise<Found>}
 */
export async function findModel(host, where, name) {
  const url = addressOf(host, where);
  const folder = new URL(url);
  if (!/\/(manifest|models)\.json$/.test(folder.pathname)) folder.pathname = folder.pathname.replace(/\/?$/, '/');
  /** @type {Error | undefined} */
  let refusal;
  const manifest = await fileOf(host, folder, 'manifest.json').catch((error) => void (refusal = error));
  if (manifest?.json) return ofFolder(folder, manifest);
  // Of a file that is missing a server of another origin may not even say that.
  const index = await fileOf(host, folder, 'models.json').catch((error) => void (refusal ??= error));
  if (index?.json) return ofSite(folder, index.text, name);
  if (refusal) throw refusal;
  // A server may answer with a page in the place of a file that is missing.
  if (manifest ?? index) throw new Error(`no model is at ${folder.href}: what the server answers for manifest.json is not JSON: check the address`);
  throw new Error(`no model is at ${folder.href}: it has neither manifest.json nor models.json: give the address of a model's folder or of a site`);
}

/**
 * @param {ModelHost} host
 * @param {string | URL} where
 */
function addressOf(host, where) {
  try {
    return host.address(where);
  } catch {
    throw new Error(`${where} is no address of a model`);
  }
}

/** @typedef {{text: string, bytes: Uint8Array<ArrayBuffer>, json: any}} JsonFile `json` is undefined if it is none */

/**
 * @param {ModelHost} host
 * @param {URL} folder
 * @param {string} name
 * @returns {Promise<JsonFile | undefined>} undefined if there is no such file
 */
async function fileOf(host, folder, name) {
  const bytes = await host.read(new URL(name, folder), name);
  if (!bytes) return undefined;
  const text = new TextDecoder().decode(bytes);
  try {
    return { text, bytes, json: parse(name, text) };
  } catch {
    return { text, bytes, json: undefined };
  }
}

/**
 * The detector itself checks the manifest. A model may be replaced in its folder: addresses end with the content's hash, so that no cache
 * answers with the earlier one's file.
 * @param {URL} folder
 * @param {JsonFile} manifest
 * @returns {Found}
 */
function ofFolder(folder, { json, bytes }) {
  /** @type {{name: string, bytes: number, sha256: string}[]} */
  const listed = Array.isArray(json.files) ? json.files : [];
  const files = listed.filter((/** @type {any} */ file) => typeof file?.name === 'string');
  const model = {
    id: folder.href,
    name: String(json.name),
    classes: [],
    bytes: files.reduce((sum, file) => sum + Number(file.bytes), 0),
    manifest: new URL('manifest.json', folder).href,
    files: Object.fromEntries(files.map((file) => [file.name, new URL(`${encodeURIComponent(file.name)}?${file.sha256}`, folder).href])),
    made: { 'manifest.json': new Blob([bytes]) },
  };
  return { model, models: [model], encoders: [] };
}

/**
 * @param {URL} folder
 * @param {string} text
 * @param {string} [name]
 * @returns {Found}
 */
function ofSite(folder, text, name) {
  const { version } = JSON.parse(text);
  if (version > VERSION) throw new Error(`models.json has version ${version}, but this package reads ${VERSION}: update the package`);
  const index = readIndex(text, folder.href);
  const models = index.models.map((model) => located(model, folder));
  const model = name === undefined ? models[0] : models.find((other) => other.name === name);
  if (!model) {
    const known = models.map((other) => other.name).join(', ');
    throw new Error(`the site ${folder.href} has no model ${name ?? ''}: it has ${known || 'encoders alone'}`);
  }
  return { model, models, encoders: index.encoders.map((encoder) => located(encoder, folder)) };
}

/**
 * The entry with whole addresses.
 * @template {EncoderEntry} T
 * @param {T} entry
 * @param {URL} folder
 * @returns {T}
 */
function located(entry, folder) {
  const whole = (/** @type {string} */ path) => new URL(path, folder).href;
  const files = Object.entries(entry.files).map(([file, path]) => [file, whole(path)]);
  return { ...entry, manifest: whole(entry.manifest), files: Object.fromEntries(files) };
}

/**
 * Fetches a file of a model.
 * @param {URL} url
 * @param {string} name
 * @returns {Promise<Uint8Array<ArrayBuffer> | undefined>} undefined if there is no such file
 */
export async function fetched(url, name) {
  try {
    return await fetchBytes(url.href, name, () => {}, { cache: 'no-cache' });
  } catch (error) {
    const { name: kind, status } = /** @type {Error & {status?: number}} */ (error);
    if (status !== undefined && MISSING.includes(status)) return undefined;
    // Browsers do not tell a refusal from a server that is not there.
    const here = globalThis.location?.origin;
    if (kind === 'NetworkError' && status === undefined && here && url.origin !== here) {
      throw new Error(`the model at ${url.origin} cannot be read from ${here}: the server is not reached, or does not allow it: it has to send ` +
        `Access-Control-Allow-Origin, as \`dinomaly serve --allow-origin ${here}\` does`);
    }
    throw error;
  }
}
