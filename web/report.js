// @ts-check
// A report of results: one HTML file with everything in it, to read, print and pass on.

import { shown } from './dom.js';

/** @import {Result} from './types.js' */
/** @import {Rec} from './records.js' */

/** Nothing but what is in the file. */
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/** Opacity of heatmaps. */
const HEAT = 0.55;

const STYLE = `
:root { font: 15px/1.45 system-ui, sans-serif; color: #1c1a20; background: #fff; color-scheme: light; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } p { color: #5d5966; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid #dedbd6; text-align: left; vertical-align: top; white-space: nowrap; }
td:nth-child(2) { white-space: normal; overflow-wrap: anywhere; }
th { font-size: .8rem; color: #5d5966; }
td:first-child { width: 12rem; } img { display: block; max-width: 11rem; max-height: 11rem; }
small { color: #5d5966; } .defective { color: #a3240f; font-weight: 600; } .good { color: #17693c; } .unknown { color: #7a4b00; font-weight: 600; }
@media print { body { margin: 0; max-width: none; } tr { break-inside: avoid; } thead { display: table-header-group; } }
`;

/** @type {Record<string, string>} */
const SPOKEN = { good: 'Good', defective: 'Defective', unknown: 'Unknown product' };

/**
 * @param {Result[]} results
 * @param {Rec[]} records of the same results
 * @returns {Promise<string>}
 */
export async function report(results, records) {
  const rows = [];
  for (const [i, record] of records.entries()) rows.push(row(record, await overlay(results[i])));
  const count = (/** @type {string} */ verdict) => records.filter((record) => record.verdict === verdict).length;
  const counts = Object.keys(SPOKEN).filter(count).map((verdict) => `${count(verdict)} ${SPOKEN[verdict].toLowerCase()}`);
  const models = [...new Set(records.map(({ model, model_hash }) => `${model ?? 'unknown'}${model_hash ? ` (${model_hash})` : ''}`))];
  const programs = [...new Set(records.map(({ program }) => program).filter((program) => program !== null))];
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Inspection report</title><style>${STYLE}</style></head>
<body>
<h1>Inspection report</h1>
<p>${text(`${records.length} photos: ${counts.join(', ')}. Model: ${models.join('; ')}. ${programs.length > 0 ? `Dinomaly ${programs.join(', ')}. ` : ''}Written ${new Date().toISOString()}.`)}</p>
<table>
<thead><tr><th>Photo with heatmap</th><th>Name</th><th>Verdict</th><th>Score</th><th>Threshold</th><th>Product</th><th>Label</th><th>Inspected</th></tr></thead>
<tbody>
${rows.join('\n')}
</tbody>
</table>
</body>
</html>
`;
}

/**
 * @param {Rec} record
 * @param {string | undefined} image data URL
 */
function row(record, image) {
  const { photo, photo_sha256: hash, verdict, score, threshold, product, label, time, device } = record;
  const cells = [
    image ? `<img src="${image}" alt="">` : '',
    `${text(photo)}${hash ? `<br><small>SHA-256 ${text(hash)}</small>` : ''}`,
    `<span class="${text(verdict)}">${text(SPOKEN[verdict] ?? verdict)}</span>`,
    score.toPrecision(4),
    threshold.toPrecision(4),
    text(product ?? ''),
    text(label ?? ''),
    `${text(time)}<br><small>${text(device)}</small>`,
  ];
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
}

/**
 * The small photo under its heatmap, as a data URL.
 * @param {Result} result
 */
async function overlay({ thumbnail, heat, region: [x0, y0, x1, y1], width, height }) {
  if (!thumbnail) return undefined;
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  const photo = await createImageBitmap(thumbnail);
  Object.assign(canvas, { width: photo.width, height: photo.height });
  context?.drawImage(photo, 0, 0);
  photo.close();
  if (context && heat) {
    const over = await createImageBitmap(heat);
    const [across, down] = [canvas.width / width, canvas.height / height];
    context.globalAlpha = HEAT;
    context.drawImage(over, x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down);
    over.close();
  }
  return canvas.toDataURL('image/jpeg', 0.85);
}

/** @param {string} value */
function text(value) {
  const names = /** @type {Record<string, string>} */ ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' });
  return shown(value).replace(/[&<>"']/g, (mark) => names[mark]);
}
