// Memory and speed of the page with hundreds of photos, against another build of it: BENCHMARKS.md, "The page with hundreds of photos".
//
//   npm install playwright-core
//   node page_scale.mjs http://127.0.0.1:8080/ http://127.0.0.1:8081/
//
// The addresses are those of this build and the other one. Photos are drawn in the browser: 500 of 448², 120 of 12 megapixels. Each case
// gets a browser of its own, whose processes' memory is read from /proc (Linux).

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { chromium } from 'playwright-core';

/** What is measured: photos, and how many different ones among them. */
const CASES = [
  { name: '500 photos of 448 × 448', width: 448, height: 448, count: 500, kinds: 20 },
  { name: '120 photos of 4000 × 3000', width: 4000, height: 3000, count: 120, kinds: 6 },
];

/** Presses of the arrow key; their median counts. */
const PRESSES = 5;

const executablePath = process.env.CHROME ?? '/usr/bin/chromium';
const launch = () => chromium.launch({ executablePath, args: ['--no-sandbox', '--enable-unsafe-webgpu'] });

/** Writes the photos of a case to a folder. */
async function draw(folder, { width, height, count, kinds }) {
  const browser = await launch();
  const page = await browser.newPage();
  const drawn = [];
  for (let kind = 0; kind < kinds; kind++) {
    const base64 = await page.evaluate(async ([width, height, kind]) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext('2d');
      context.fillStyle = `hsl(${37 * kind} 25% 55%)`;
      context.fillRect(0, 0, width, height);
      for (let i = 0; i < 4000; i++) {
        context.fillStyle = `hsl(${(i * 97) % 360} 40% ${30 + ((i * 31) % 50)}% / 50%)`;
        const side = ((i * 7919 + kind * 131) % 1000) * (width / 60000);
        context.fillRect((i * 104729 + kind * 977) % width, (i * 15485863) % height, side, side);
      }
      const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.88 });
      const bytes = new Uint8Array(await blob.arrayBuffer());
      let text = '';
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return btoa(text);
    }, [width, height, kind]);
    drawn.push(Buffer.from(base64, 'base64'));
  }
  await browser.close();
  return Array.from({ length: count }, (_, i) => {
    const file = path.join(folder, `photo ${i}.jpg`);
    fs.writeFileSync(file, drawn[i % kinds]);
    return file;
  });
}

/** Memory of the browser's processes in MB, by kind, without the files of the program, which other browsers may share. */
async function memory(session) {
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const total = {};
  for (const { type, id } of processInfo) {
    const listed = fs.readFileSync(`/proc/${id}/smaps_rollup`, 'utf8').matchAll(/Pss_(?:Anon|Shmem):\s+(\d+)/g);
    const kilobytes = [...listed].reduce((sum, [, size]) => sum + Number(size), 0);
    total[type] = (total[type] ?? 0) + Math.round(kilobytes / 1024);
  }
  return total;
}

/** Milliseconds from a press of the arrow key until the next frame is drawn. */
async function press(page) {
  await page.evaluate(() => {
    window.took = new Promise((done) => {
      addEventListener('keydown', () => {
        const begun = performance.now();
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
      }, { capture: true, once: true });
    });
  });
  await page.keyboard.press('ArrowRight');
  return page.evaluate(() => window.took);
}

async function measure(url, files) {
  const browser = await launch();
  const session = await browser.newBrowserCDPSession();
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  await page.addInitScript(() => {
    window.tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ startTime, duration }) => ({ startTime, duration }))))
      .observe({ type: 'longtask' });
    addEventListener('change', () => (window.chosen ??= performance.now()), { capture: true });
  });
  await page.goto(`${url}?device=wasm`);
  await page.waitForFunction(() => document.documentElement.dataset.state === 'ready', null, { timeout: 60_000 });
  const before = await memory(session);
  const begun = Date.now();
  await page.setInputFiles('#files', files);
  const settled = '.card[data-state="done"], .card[data-state="failed"]';
  await page.waitForFunction(([settled, count]) => document.querySelectorAll(settled).length >= count, [settled, files.length],
    { timeout: 3_600_000, polling: 1000 });
  const seconds = (Date.now() - begun) / 1000;
  // The task in which the browser hands over hundreds of files began before.
  const longest = await page.evaluate(() => Math.max(0, ...tasks.filter(({ startTime }) => startTime >= chosen).map(({ duration }) => duration)));
  const failed = await page.evaluate(() => document.querySelectorAll('.card[data-state="failed"]').length);
  if (failed > 0) throw new Error(`${failed} photos failed`);
  await page.waitForTimeout(3000);
  const after = await memory(session);
  await page.focus('#opacity');
  const presses = [];
  for (let i = 0; i < PRESSES; i++) presses.push(await press(page));
  await browser.close();
  console.log(`  ${url}: ${JSON.stringify({ before, after, seconds, longest, presses })}`);
  const key = presses.sort((a, b) => a - b)[Math.floor(PRESSES / 2)];
  return { before, after, seconds, longest, key };
}

const [ours, other] = process.argv.slice(2);
if (!other) throw new Error('give the addresses of this build and of the other one');
for (const photos of CASES) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'page-scale-'));
  const files = await draw(folder, photos);
  const [a, b] = [await measure(ours, files), await measure(other, files)];
  fs.rmSync(folder, { recursive: true });
  const grown = ({ before, after }, kind) => after[kind] - before[kind];
  console.log(photos.name);
  for (const [name, { before, after, seconds, longest, key }] of [['ours', a], ['other', b]]) {
    console.log(`  ${name}: memory ${JSON.stringify(before)} → ${JSON.stringify(after)} MB, ${seconds.toFixed(0)} s, longest task ` +
      `${longest.toFixed(0)} ms, arrow key ${key.toFixed(1)} ms`);
  }
  const ratio = (x, y) => (x / y).toFixed(3);
  console.log(`  ours / other: renderer ${ratio(a.after.renderer, b.after.renderer)}, its growth ` +
    `${ratio(grown(a, 'renderer'), grown(b, 'renderer'))}, arrow key ${ratio(a.key, b.key)}, time ${ratio(a.seconds, b.seconds)}`);
}
