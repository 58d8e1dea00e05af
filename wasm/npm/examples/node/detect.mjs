// node detect.mjs MODEL PHOTO…: a line of JSON for each photo. MODEL is a folder or an address.
import { readFile } from 'node:fs/promises';
import { Detector } from 'dinomaly';

const [model, ...photos] = process.argv.slice(2);
try {
  const detector = await Detector.load(model, {
    onProgress: ({ phase, loaded, total }) => process.stderr.write(`\r${phase} ${Math.round((100 * loaded) / total)} %`),
  });
  process.stderr.write('\n');
  for (const name of photos) {
    const { verdict, score, threshold, class: product, map, mapWidth } = await detector.detect(await readFile(name), { name });
    console.log(JSON.stringify({ name, verdict, score, threshold, product, mapWidth, largest: map.reduce((a, b) => Math.max(a, b)) }));
  }
  detector.close();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
