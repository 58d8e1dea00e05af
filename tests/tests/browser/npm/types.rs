//! What tsc says: of users' code that is right and wrong, and of the page's own.

use std::fs;
use std::path::Path;

use super::{TSC, built, project, run, tool};
use dinomaly_tests::page::site::copy;

/// Right uses, and wrong ones that tsc must refuse.
const BROWSER: &str = r#"
import { Detector, Result, type LoadProgress, type Verdict } from 'dinomaly';
import { DinomalyViewer } from 'dinomaly/viewer';

declare const photo: Blob | ImageBitmap | ImageData | HTMLVideoElement | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas;
declare const canvas: HTMLCanvasElement;

export async function right(): Promise<Float32Array> {
  using detector = await Detector.load(new URL('https://example.org/model/'), {
    device: 'gpu',
    onProgress: ({ phase, loaded, total }: LoadProgress) => console.log(phase, loaded / total),
    signal: AbortSignal.timeout(5000),
  });
  const result: Result = await detector.detect(photo, { class: detector.classes[0], signal: AbortSignal.timeout(5000) });
  const verdict: Verdict = result.verdict;
  const product: string | null = result.class;
  result.draw(canvas, { opacity: 0.5 });
  const viewer = new DinomalyViewer();
  viewer.opacity = result.score > result.threshold ? 1 : 0;
  const inspected: Result = await viewer.inspect(new Blob());
  console.log(verdict, product, inspected.regions?.[0].outline, detector.description.device.precision);
  return result.map;
}

export async function wrong(detector: Detector, result: Result): Promise<void> {
  // @ts-expect-error
  await Detector.load('model', { device: 'tpu' });
  // @ts-expect-error
  await detector.detect(5);
  // @ts-expect-error
  await detector.detect(photo, { klass: 'gear' });
  // @ts-expect-error
  result.draw('canvas');
  // @ts-expect-error
  if (result.verdict === 'bad') return;
  // @ts-expect-error
  new Detector();
}
"#;

const NODE: &str = r#"
import { readFile } from 'node:fs/promises';
import { Detector, type NodePhoto } from 'dinomaly';

const detector = await Detector.load('model', { device: 'cpu' });
const photos: NodePhoto[] = [await readFile('photo.jpg'), new Uint8Array(4), { data: new Uint8Array(4), width: 1, height: 1 }];
for (const photo of photos) console.log((await detector.detect(photo)).score.toFixed(3));
// @ts-expect-error
await detector.detect('photo.jpg');
detector.close();
"#;

#[test]
fn users_code_has_the_types_of_the_interface() {
    let project = project();
    let settings = ["--strict", "--noEmit", "--skipLibCheck", "false", "--target", "es2022"];
    for (name, code, more) in [
        ("browser.ts", BROWSER, "--module esnext --moduleResolution bundler"),
        // A project without the types of pages.
        ("node.ts", NODE, "--module nodenext --moduleResolution nodenext --types node --lib es2022"),
    ] {
        fs::write(project.path().join(name), code).unwrap();
        let more: Vec<&str> = more.split(' ').collect();
        run(&mut tool(TSC, project.path(), &[&settings[..], &more, &[name]].concat()));
    }
}

/// The commands of web/README.md.
#[test]
fn the_pages_javascript_has_the_types_that_it_says() {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../web"), folder.path());
    fs::create_dir(folder.path().join("wasm")).unwrap();
    fs::copy(built().join("../wasm-build/page/cpu.d.ts"), folder.path().join("wasm/cpu.d.ts")).unwrap();
    let check = [
        "--noEmit",
        "--checkJs",
        "--strict",
        "--target",
        "esnext",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
    ];
    run(&mut tool(TSC, folder.path(), &[&check[..], &["app.js"]].concat()));
    run(&mut tool(
        TSC,
        folder.path(),
        &[&check[..], &["--lib", "esnext,webworker", "worker.js", "offline.js"]].concat(),
    ));
}
