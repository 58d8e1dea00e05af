//! What goes wrong: bad photos, altered models, GPUs that are missing, emulated, wrong or lost.

use std::fs;
use std::path::Path;

use dinomaly_core::detector::SELF_TEST_TOLERANCE;
use dinomaly_core::executors::webgpu::kernel_sources;
use dinomaly_core::photo::decode::Photo;
use dinomaly_tests::page::chrome::{Chrome, Found};
use dinomaly_tests::page::site::{MODELS, Site, before_worker, detect, detector, shards};
use dinomaly_tests::{fixtures, max_difference};
use serde_json::json;

use crate::{TOLERANCE, assert_silent, path_of, photos, read, turn};

#[test]
fn bad_photos_get_their_sentence() {
    let _turn = turn();
    let site = Site::unaltered();
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(fixtures("photos/444.jpg")).unwrap();
    let mut huge = fs::read(fixtures("photos/rgb.png")).unwrap();
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let mut hasher = flate2::Crc::new();
    hasher.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&hasher.sum().to_be_bytes());
    // A browser shows this name as that of a PNG.
    let reversed = "photo\u{202e}gnp.exe";
    let bad: [(&str, &[u8]); 5] = [
        (reversed, b"no photo"),
        ("diary.txt", b"Dear diary, today I photographed a screw."),
        ("cut off.jpg", &good[..good.len() / 2]),
        ("huge.png", &huge),
        ("empty.png", b""),
    ];
    for (name, bytes) in bad {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join("good.jpg"), &good).unwrap();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    page.drop_files(&bad.map(|(name, _)| folder.path().join(name)));
    // What does not even begin as a photo stands in one message, the others have cards.
    let failed = ["cut off.jpg", "huge.png"];
    page.results(failed.len());
    for (name, bytes) in bad.into_iter().filter(|(name, _)| failed.contains(name)) {
        let expected = Photo::decode(name, bytes).unwrap_err().to_string();
        let cards =
            page.eval("[...document.querySelectorAll('.card[data-state=failed]')].map((card) => card.innerText)");
        let shown = cards.as_array().unwrap().iter().any(|text| text.as_str().unwrap().contains(&expected));
        assert!(shown, "{expected} is not among {cards}");
    }
    let refused = page.text("#refused");
    for expected in ["photo\\u202egnp.exe is no photo: ", "diary.txt is no photo: ", "empty.png is empty"] {
        assert!(refused.contains(expected), "{refused}");
    }
    // The next one is fine.
    page.drop_files(&[folder.path().join("good.jpg")]);
    assert_eq!(page.results(failed.len() + 1)[0].file, "good.jpg");
    page.screenshot("page-bad-photos");
    assert_silent(&page);
}

#[test]
fn an_altered_list_of_models_is_refused() {
    let _turn = turn();
    type Alter = fn(&mut serde_json::Value);
    let cases: [(&str, Alter); 7] = [
        ("it is no object", |index| *index = json!([])),
        ("models[0].classes is no list", |index| drop(index["models"][0].as_object_mut().unwrap().remove("classes"))),
        ("modules.cpu.bytes is no size", |index| index["modules"]["cpu"]["bytes"] = json!("24")),
        ("models[0].manifest is no path in this site", |index| index["models"][0]["manifest"] = json!("../a.json")),
        ("samples is no list", |index| index["samples"] = json!(null)),
        ("samples[0].truth is no label", |index| {
            index["samples"] = json!([{ "name": "a", "class": null, "path": "samples/a.png", "truth": "odd" }]);
        }),
        ("thumbnails.columns is no size", |index| {
            index["thumbnails"] = json!({ "path": "samples/thumbnails.jpg", "columns": 0 });
        }),
    ];
    let chrome = Chrome::launch();
    let refusal = |alter: &dyn Fn(&mut Vec<u8>)| {
        let site = Site::altered(|folder| {
            let path = folder.join("models.json");
            let mut bytes = fs::read(&path).unwrap();
            alter(&mut bytes);
            fs::write(path, bytes).unwrap();
        });
        let page = chrome.open(&site.url);
        page.wait_for("document.documentElement.dataset.state === 'failed'");
        page.text("#status-more")
    };
    for (expected, alter) in cases {
        let reason = refusal(&|bytes| {
            let mut index = serde_json::from_slice(bytes).unwrap();
            alter(&mut index);
            *bytes = serde_json::to_vec(&index).unwrap();
        });
        assert_eq!(reason, format!("models.json is damaged: {expected}: write the site again"));
    }
    let reason = refusal(&|bytes| {
        let mut index: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        index["models"] = json!([]);
        *bytes = index.to_string().into_bytes();
    });
    assert_eq!(reason, "this site has no model: write it again with `dinomaly site MODEL --out SITE`");
    let reason = refusal(&|bytes| bytes.truncate(bytes.len() / 2));
    assert!(reason.contains("models.json is not JSON: it is cut off"), "{reason}");
}

#[test]
fn an_altered_model_is_refused() {
    let _turn = turn();
    type Alter = fn(&Path);
    let cases: [(&str, Alter); 3] = [
        ("it is altered or damaged, fetch it again", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("it is truncated or altered, fetch it again", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
        }),
        ("could not be downloaded: the server answered 404", |path| fs::remove_file(path).unwrap()),
    ];
    for (expected, alter) in cases {
        let site = Site::altered(|folder| shards(folder).iter().for_each(|shard| alter(shard)));
        let chrome = Chrome::launch();
        let page = chrome.open(&site.url);
        page.wait_for_model();
        assert_eq!(page.eval("document.documentElement.dataset.state"), "failed");
        let text = page.text(".panel");
        assert!(text.contains(expected) && text.contains(".safetensors"), "{text}");
        println!("{}", text.replace('\n', " | "));
    }
}

/// The page keeps the GPU, though an emulated one is slower than the processor.
fn untimed(folder: &Path) {
    fs::write(folder.join("fastest.js"), "export const timeBoth = async () => undefined;").unwrap();
}

/// Loses the GPU of a worker when it is told to, and says when one is opened.
pub(crate) const LOSES_GPU: &str = "
const open = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await open.apply(this, args);
    const lose = new BroadcastChannel('lose');
    lose.onmessage = () => device.destroy();
    lose.postMessage('opened');
    return device;
};";

/// Makes the emulated GPU look like a real one.
pub(crate) const DISGUISE: &str =
    "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });";

#[test]
fn an_emulated_gpu_is_not_taken_and_the_page_says_why() {
    let _turn = turn();
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm");
    let text = page.text(".panel");
    assert!(text.contains("Ready on the CPU") && text.contains("the browser only emulates a GPU"), "{text}");
    let fetched = |chrome: &Chrome, part: &str| chrome.requested().iter().any(|url| url.contains(part));
    assert!(
        fetched(&chrome, "/relaxed_bg.wasm") && !fetched(&chrome, "/gpu_bg.wasm") && !fetched(&chrome, "/cpu_bg.wasm"),
        "a module for nothing"
    );

    // The same with a GPU that does not admit it: only then do the tests below test anything.
    let site = Site::altered(|folder| before_worker(folder, DISGUISE));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert!(fetched(&chrome, "/gpu_bg.wasm") && !fetched(&chrome, "/cpu_bg.wasm"), "a module for nothing");
    assert_eq!(page.eval("document.documentElement.dataset.device"), "webgpu", "{}", page.text(".panel"));
}

/// As Safari has it: the module without relaxed SIMD. The self-test allows so little that int8 does not pass, and the weights come again.
#[test]
fn a_browser_without_relaxed_simd_gets_its_module_and_a_strict_self_test_single_precision() {
    let _turn = turn();
    let site = Site::altered(|folder| {
        before_worker(folder, "WebAssembly.validate = () => false;");
        for entry in fs::read_dir(folder.join("files")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("\"self_test\"") {
                let strict = text.replace(&format!("\"tolerance\": {SELF_TEST_TOLERANCE}"), "\"tolerance\": 2e-6");
                assert_ne!(strict, text);
                fs::write(path, strict).unwrap();
            }
        }
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}?device=wasm", site.url));
    page.wait_for_model();
    assert!(page.text(".panel").contains("self-test passed in f32"), "{}", page.text(".panel"));
    let photos = photos();
    page.drop_files(&photos[..2]);
    page.results(2);
    let int8 = MODELS.iter().find(|name| name.ends_with("int8")).unwrap();
    page.choose("model", int8);
    for found in page.results(2) {
        let expected = detect(&detector(int8), &read(path_of(&photos, &found)));
        let difference = max_difference(&found.map().values, &expected.map.values);
        assert!(difference <= TOLERANCE, "{}: map differs by {difference:e}", found.file);
    }
    assert!(page.text(".panel").contains("self-test passed in f32, not in int8"), "{}", page.text(".panel"));
    let fetched = |part: &str| chrome.requested().iter().any(|url| url.contains(part));
    assert!(
        fetched("/cpu_bg.wasm") && !fetched("/relaxed_bg.wasm") && !fetched("/gpu_bg.wasm"),
        "{:?}",
        chrome.requested()
    );
    assert_silent(&page);
}

#[test]
fn a_browser_without_webgpu_computes_on_the_processor_and_the_page_says_why() {
    let _turn = turn();
    let site = Site::altered(|folder| before_worker(folder, "delete WorkerNavigator.prototype.gpu;"));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm");
    let text = page.text(".panel");
    assert!(text.contains("no GPU was found"), "{text}");
    println!("{}", text.replace('\n', " | "));
    page.choose("device", "GPU");
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.state"), "failed");
    let text = page.text(".panel");
    assert!(text.contains("The detector could not be started") && text.contains("no GPU was found"), "{text}");
}

#[test]
fn a_gpu_that_computes_wrongly_is_found_and_the_page_says_so() {
    let _turn = turn();
    // One constant of one kernel; everything compiles and runs.
    let lines = format!(
        "{DISGUISE}
         const create = GPUDevice.prototype.createShaderModule;
         GPUDevice.prototype.createShaderModule = function (descriptor) {{
             return create.call(this, {{ ...descriptor, code: descriptor.code.replaceAll('1.0 -', '1.01 -') }});
         }};"
    );
    let site = Site::altered(|folder| before_worker(folder, &lines));
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    let text = page.text(".panel");
    assert_eq!(page.eval("document.documentElement.dataset.device"), "wasm", "{text}");
    assert!(text.contains("fails the model's self-test"), "{text}");
    page.drop_files(&photos()[..1]);
    let found = &page.results(1)[0];
    let expected = detect(&detector(MODELS[0]), &read(&photos()[0]));
    assert!(max_difference(&found.map().values, &expected.map.values) <= TOLERANCE);
    page.screenshot("page-fallback");
    println!("{}", text.replace('\n', " | "));
}

#[test]
fn a_lost_gpu_is_opened_again_and_given_up_when_it_is_lost_for_good() {
    let _turn = turn();
    let lines = format!("{DISGUISE}{LOSES_GPU}");
    let site = Site::altered(|folder| {
        before_worker(folder, &lines);
        untimed(folder);
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.eval("(() => { window.lose = new BroadcastChannel('lose'); window.opened = 0; lose.onmessage = () => { opened += 1; }; })()");
    page.wait_for_model();
    assert_eq!(page.eval("document.documentElement.dataset.device"), "webgpu", "{}", page.text(".panel"));
    let native = detector(MODELS[0]);
    let check = |found: &Found, device: &str| {
        let expected = detect(&native, &read(path_of(&photos(), found)));
        // A GPU that seems real rounds weights to f16, as far as the self-test allows.
        let tolerance = if device == "webgpu" { SELF_TEST_TOLERANCE } else { TOLERANCE };
        assert!(max_difference(&found.map().values, &expected.map.values) <= tolerance);
        assert_eq!(found.device, device);
    };

    // Lost between two photos: opened again, the next photos, two of them in flight, do not notice.
    page.eval("lose.postMessage('lose')");
    page.drop_files(&photos()[2..5]);
    let found = page.results(3);
    assert_eq!(found.len(), 3, "{}", page.text("main"));
    found.iter().for_each(|found| check(found, "webgpu"));
    page.wait_for("opened > 0");
    page.eval("document.getElementById('clear').click()");

    // Lost whenever it is opened: the processor takes over and the page says why.
    page.eval("(() => { lose.onmessage = () => setTimeout(() => lose.postMessage('lose'), 0); })()");
    page.eval("lose.postMessage('lose')");
    page.drop_files(&photos()[1..2]);
    check(&page.results(1)[0], "wasm");
    let text = page.text(".panel");
    assert!(text.contains("Not on the GPU"), "{text}");
    assert!(!text.contains("destroyed"), "the browser's words: {text}");
    println!("{}", text.replace('\n', " | "));
}

/// naga, which compiles natively, lets pass what Chrome refuses.
#[test]
fn kernels_compile_in_a_browser() {
    let _turn = turn();
    let site = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    let compile = |source: &str| {
        page.eval(&format!(
            "(async () => {{
                window.gpu ??= await (await navigator.gpu.requestAdapter()).requestDevice();
                gpu.pushErrorScope('validation');
                const module = gpu.createShaderModule({{ code: {} }});
                const {{ messages }} = await module.getCompilationInfo();
                // A pipeline is checked further than its module.
                gpu.createComputePipeline({{ layout: 'auto', compute: {{ module, entryPoint: 'main' }} }});
                const error = await gpu.popErrorScope();
                return [...messages.map(({{ type, lineNum, message }}) => `${{type}} in line ${{lineNum}}: ${{message}}`),
                    ...(error ? [error.message] : [])];
            }})()",
            serde_json::to_string(source).unwrap()
        ))
    };
    let mut compiled = 0;
    for (name, source) in kernel_sources() {
        let messages = compile(&source);
        assert_eq!(messages.as_array().map(Vec::len), Some(0), "{name}: {messages}");
        compiled += 1;
    }
    assert!(compiled > 0);
    println!("{compiled} kernels compiled");
    let refused = compile("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }");
    assert!(!refused.as_array().unwrap().is_empty(), "a kernel that is wrong must be noticed");
}

/// As in `dinomaly demo` until all modules are built.
#[test]
fn a_site_with_the_first_module_alone_computes_on_the_processor() {
    let _turn = turn();
    let site = Site::altered(|folder| {
        let path = folder.join("models.json");
        let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["modules"].as_object_mut().unwrap().retain(|name, _| name == "cpu");
        fs::write(path, index.to_string()).unwrap();
    });
    let chrome = Chrome::launch();
    let page = chrome.open(&site.url);
    page.wait_for_model();
    page.drop_files(&[fixtures("photos/444.jpg")]);
    assert_eq!(page.results(1)[0].file, "444.jpg");
    let page = chrome.open(&format!("{}?device=webgpu", site.url));
    page.wait_for("document.documentElement.dataset.state === 'failed'");
    let reason = page.text("#status-more");
    assert!(reason.contains("no module for the graphics processor yet"), "{reason}");
}
