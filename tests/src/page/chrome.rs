//! A real Chromium, driven through its DevTools protocol.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use dinomaly_core::maps::score::AnomalyMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{Engine, PATIENCE};
use super::socket::{Socket, listening};

/// WebGPU without a GPU, which draws no pages then, nothing of the browser's own business, not even its first tab, and pages behind others
/// as awake as the one in front.
const ARGUMENTS: [&str; 23] = [
    "--headless",
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--window-size=1280,1000",
    "--enable-unsafe-webgpu",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-features=PreloadTopChromeWebUI",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
    "--disable-ipc-flooding-protection",
    "--disable-quic",
    "--disable-renderer-backgrounding",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--no-first-run",
    "--no-startup-window",
    "--password-store=basic",
];

/// Keeps what `dinomaly:result` events say, in their order.
pub(super) const RESULTS: &str = "window.results = []; addEventListener('dinomaly:result', (event) => {
    const { map, ...rest } = event.detail;
    results.push({ ...rest, map: [...map] });
});";

/// A browser with a profile of its own.
pub struct Chrome {
    process: Child,
    /// Where the browser itself listens; each page has an address of its own.
    address: String,
    browser: Socket,
    profile: TempDir,
}

impl Chrome {
    /// Starts the Chromium that `CHROME` names, or that is installed.
    pub fn launch() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = start(profile.path());
        let address = listening(&mut process, "DevTools listening on ");
        let browser = Socket::connect(&address);
        Self { process, address, browser, profile }
    }

    /// Opens a page and listens to it from its first byte on.
    pub fn open(&self, url: &str) -> Page {
        let page = self.new_page();
        page.go_to(url);
        page
    }

    /// [`Chrome::open`] for a page that may never be loaded wholly.
    pub fn open_without_waiting(&self, url: &str) -> Page {
        let page = self.new_page();
        page.begin_to_go_to(url);
        page
    }

    fn new_page(&self) -> Page {
        let made = self.browser.ask("Target.createTarget", &json!({ "url": "about:blank" }), drop).unwrap();
        let (host, _) = self.address.split_once("/devtools/").unwrap();
        let socket = Socket::connect(&format!("{host}/devtools/page/{}", made["targetId"].as_str().unwrap()));
        let page = Page { socket, heard: RefCell::default() };
        for domain in ["Log", "Runtime", "Network", "Page"] {
            page.ask(&format!("{domain}.enable"), json!({}));
        }
        page.ask("Page.setLifecycleEventsEnabled", json!({ "enabled": true }));
        // Before anything of the page runs.
        page.ask("Page.addScriptToEvaluateOnNewDocument", json!({ "source": RESULTS }));
        page
    }

    /// Every address that a page asked the network for, workers included, as the browser itself noted it.
    pub fn requested(&self) -> Vec<String> {
        let log = fs::read_to_string(self.profile.path().join("net-log.json")).unwrap();
        let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches(',')).ok());
        requests
            .filter_map(|event| {
                let params = &event["params"];
                // What the browser does for itself has no initiator, or one of its own pages.
                let own = |initiator: &str| initiator == "not an origin" || initiator.starts_with("chrome://");
                params["initiator"].as_str().filter(|initiator| !own(initiator))?;
                Some(params["url"].as_str()?.to_owned())
            })
            .collect()
    }

    /// [`Chrome::requested`] with nothing missing: the browser writes its log with a delay, until then one thing more is asked for.
    pub fn requested_by_now(&self, page: &Page) -> Vec<String> {
        let last = page.eval("new URL(`favicon.svg?${crypto.randomUUID()}`, document.baseURI).href");
        let begun = Instant::now();
        loop {
            page.eval(&format!("fetch({last}, {{ cache: 'no-store' }}).then(({{ ok }}) => ok)"));
            let mut requested = self.requested();
            if let Some(end) = requested.iter().position(|url| *url == last) {
                requested.truncate(end);
                requested.retain(|url| !url.contains("/favicon.svg?"));
                return requested;
            }
            assert!(begun.elapsed() < PATIENCE, "the browser's log has no {last}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(profile: &Path) -> Child {
    let named = std::env::var("CHROME").ok();
    let usual = vec![
        "chromium",
        "chromium-browser",
        "google-chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ];
    let names = named.as_deref().map_or(usual, |name| vec![name]);
    let start = |name: &&str| {
        let mut command = Command::new(name);
        command.args(ARGUMENTS);
        command.arg(format!("--log-net-log={}", profile.join("net-log.json").display()));
        command.arg(format!("--user-data-dir={}", profile.join("profile").display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()
    };
    names
        .iter()
        .find_map(start)
        .expect("Chromium cannot be started: install it (apt install chromium), or name another with CHROME")
}

/// What a page said and asked for.
#[derive(Default)]
struct Heard {
    complaints: Vec<String>,
    requests: Vec<String>,
    /// Documents that were loaded with all that belongs to them.
    loaded: BTreeSet<String>,
}

impl Heard {
    fn listen(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Log.entryAdded") => {
                let entry = &params["entry"];
                self.complaints.push(format!("{} {}: {}", entry["level"], entry["source"], entry["text"]));
            }
            Some("Runtime.consoleAPICalled") => self.complaints.push(format!("console: {}", params["args"])),
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(format!("exception: {}", params["exceptionDetails"]));
            }
            Some("Network.requestWillBeSent") => {
                self.requests.push(params["request"]["url"].as_str().unwrap().to_owned());
            }
            Some("Page.lifecycleEvent") if params["name"] == "load" => {
                self.loaded.insert(params["loaderId"].as_str().unwrap().to_owned());
            }
            _ => (),
        }
    }
}

/// An open page.
pub struct Page {
    socket: Socket,
    heard: RefCell<Heard>,
}

/// What the page found on a photo, from its event `dinomaly:result`.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// Name of the photo's file.
    pub file: String,
    /// Device that computed it: `webgpu` or `wasm`.
    pub device: String,
    /// Anomaly score.
    pub score: f32,
    /// Score from which a photo counts as defective.
    pub threshold: f32,
    /// Part of the photo that the map covers, in pixels: left, top, right and bottom.
    pub region: [f64; 4],
    /// Width of the photo in pixels.
    pub width: u32,
    /// Height of the photo in pixels.
    pub height: u32,
    /// Width of the map in pixels.
    #[serde(rename = "mapWidth")]
    pub map_width: usize,
    /// Height of the map in pixels.
    #[serde(rename = "mapHeight")]
    pub map_height: usize,
    map: Vec<f32>,
}

impl Found {
    /// The distances that the heatmap is drawn from.
    pub fn map(&self) -> AnomalyMap {
        AnomalyMap { width: self.map_width, height: self.map_height, values: self.map.clone() }
    }
}

impl Page {
    fn ask(&self, method: &str, params: Value) -> Value {
        self.try_ask(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_ask(&self, method: &str, params: &Value) -> Result<Value, Value> {
        self.socket.ask(method, params, |event| self.heard.borrow_mut().listen(&event))
    }

    /// Goes to an address; its document's name.
    fn begin_to_go_to(&self, url: &str) -> String {
        let begun = self.ask("Page.navigate", json!({ "url": url }));
        begun["loaderId"].as_str().unwrap_or_else(|| panic!("{url}: {}", begun["errorText"])).to_owned()
    }

    fn go_to(&self, url: &str) {
        let document = self.begin_to_go_to(url);
        self.listen_until(|heard| heard.loaded.contains(&document));
    }

    fn listen_until(&self, done: impl Fn(&Heard) -> bool) {
        while !done(&self.heard.borrow()) {
            let event = self.socket.next("the loading of a page");
            self.heard.borrow_mut().listen(&event);
        }
    }

    /// The value of a JavaScript expression, awaited if it is a promise.
    pub fn eval(&self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|e| panic!("{}: {e}", shown(expression)))
    }

    /// [`Page::eval`], or why there is no page to ask, as in the middle of a reload.
    fn try_eval(&self, expression: &str) -> Result<Value, Value> {
        let wrapped = format!("(async () => JSON.stringify((await ({expression})) ?? null))()");
        let result = self.try_evaluate(&wrapped)?;
        let text = result["value"].as_str().unwrap_or_else(|| panic!("{}: {result}", shown(expression)));
        Ok(serde_json::from_str(text).unwrap())
    }

    /// What an expression comes to, as the browser describes it.
    fn try_evaluate(&self, expression: &str) -> Result<Value, Value> {
        let params = json!({ "expression": expression, "awaitPromise": true });
        Ok(self.try_ask("Runtime.evaluate", &params)?["result"].take())
    }

    /// Waits until an expression is true, also over reloads.
    pub fn wait_for(&self, expression: &str) {
        let begun = Instant::now();
        while !self.try_eval(expression).is_ok_and(|value| value == Value::Bool(true)) {
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {expression}; the page says {:?}, it complained {:?}",
                self.text("main"),
                self.heard.borrow().complaints
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a model is ready, or cannot be used.
    pub fn wait_for_model(&self) {
        // In the middle of a reload there is no element.
        self.wait_for("['ready', 'failed'].includes(document.documentElement?.dataset.state)");
    }

    /// Waits until the page is kept for the next visit.
    pub fn wait_until_kept(&self) {
        self.wait_for(
            "navigator.serviceWorker.getRegistration().then((kept) =>
                kept?.scope === new URL('.', document.baseURI).href && kept.active?.state === 'activated')",
        );
    }

    /// Visible text below an element.
    pub fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    /// Chooses an option of a `<select>` by its label.
    pub fn choose(&self, id: &str, label: &str) {
        let chosen = self.eval(&format!(
            "(() => {{
                const select = document.getElementById({id:?});
                const option = [...select.options].find((option) => option.label === {label:?});
                if (!option) return false;
                select.value = option.value;
                select.dispatchEvent(new Event('change', {{ bubbles: true }}));
                return true;
            }})()"
        ));
        assert_eq!(chosen, Value::Bool(true), "{id} has no option {label}");
    }

    /// Drops files as a person does: dragged in from outside, over the drop zone, let go.
    pub fn drop_files(&self, paths: &[PathBuf]) {
        self.drop_files_on("intake", paths);
    }

    /// Drops files on the element with this id.
    pub fn drop_files_on(&self, id: &str, paths: &[PathBuf]) {
        self.drop_on(id, &json!({ "items": [], "files": paths, "dragOperationsMask": 1 }));
    }

    /// Drops an address on the element with this id, as a link from another window.
    pub fn drop_address(&self, id: &str, address: &str) {
        let item = json!({ "mimeType": "text/uri-list", "data": address });
        self.drop_on(id, &json!({ "items": [item], "dragOperationsMask": 1 }));
    }

    fn drop_on(&self, id: &str, data: &Value) {
        let centre = self.eval(&format!(
            "(() => {{ const element = document.getElementById({id:?});
                element.scrollIntoView({{ block: 'center' }});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                return [x + width / 2, y + height / 2]; }})()",
        ));
        let (x, y) = (centre[0].as_f64().unwrap(), centre[1].as_f64().unwrap());
        for step in ["dragEnter", "dragOver", "drop"] {
            self.ask("Input.dispatchDragEvent", json!({ "type": step, "x": x, "y": y, "data": data }));
        }
    }

    /// Presses a key while Control is held.
    pub fn press_with_control(&self, key: &str) {
        self.press_key(key, CONTROL);
    }

    /// Chooses files as the dialog of the page's button does.
    pub fn choose_files(&self, paths: &[PathBuf]) {
        Engine::choose_files(self, "#files", paths);
    }

    /// Pastes a file.
    pub fn paste_file(&self, name: &str, bytes: &[u8]) {
        self.eval(&format!(
            "(() => {{
                const clipboardData = new DataTransfer();
                clipboardData.items.add(new File([Uint8Array.from({bytes:?})], {name:?}));
                document.body.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData, bubbles: true, cancelable: true }}));
            }})()"
        ));
    }

    /// Presses keys, as named in `KeyboardEvent.key`, one after the other.
    pub fn press(&self, keys: &[&str]) {
        for key in keys {
            self.press_key(key, 0);
        }
    }

    fn press_key(&self, key: &str, modifiers: u32) {
        // What a key types; none does with Control held.
        let text = match key {
            _ if modifiers != 0 => "",
            "Enter" => "\r",
            key if key.chars().count() == 1 => key,
            _ => "",
        };
        for step in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let code = key_code(key);
            self.ask(
                "Input.dispatchKeyEvent",
                json!({ "type": step, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code, "modifiers": modifiers }),
            );
        }
    }

    /// Waits until so many photos were looked at or refused since the page was opened; takes the results.
    pub fn results(&self, photos: usize) -> Vec<Found> {
        self.wait_for(&format!(
            "results.length + document.querySelectorAll('.card[data-state=failed]').length >= {photos}"
        ));
        serde_json::from_value(self.eval("results.splice(0)")).unwrap()
    }

    /// Console messages, exceptions and violations of the policy so far.
    pub fn complaints(&self) -> Vec<String> {
        // What the page said before it answers has arrived.
        self.eval("0");
        self.heard.borrow().complaints.clone()
    }

    /// Addresses that the page itself, without workers, asked for.
    pub fn requested(&self) -> Vec<String> {
        self.eval("0");
        self.heard.borrow().requests.clone()
    }

    /// Loads the page again.
    pub fn reload(&self) {
        let before = self.heard.borrow().loaded.len();
        self.ask("Page.reload", json!({}));
        self.listen_until(|heard| heard.loaded.len() > before);
    }

    /// Shows the page as someone sees it who prefers dark or light.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.ask("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Shows the page in a window of this size, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Keeps a picture of the page under `target/test-artifacts`.
    pub fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-artifacts");
        fs::create_dir_all(&folder).unwrap();
        let png = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        let path = folder.join(format!("{name}.png"));
        fs::write(&path, BASE64_STANDARD.decode(png["data"].as_str().unwrap()).unwrap()).unwrap();
        println!("screenshot: {}", path.display());
    }
}

/// For tests that run in any browser.
impl Engine for Page {
    fn open(&self, url: &str) {
        self.go_to(url);
    }

    fn reload(&self) {
        self.reload();
    }

    fn evaluate(&self, expression: &str) -> Result<String, String> {
        let result = self.try_evaluate(expression).map_err(|error| error.to_string())?;
        result["value"].as_str().map(str::to_owned).ok_or_else(|| result.to_string())
    }

    fn choose_files(&self, selector: &str, paths: &[PathBuf]) {
        let found = self.try_evaluate(&format!("document.querySelector({selector:?})")).unwrap();
        self.ask("DOM.setFileInputFiles", json!({ "objectId": found["objectId"], "files": paths }));
    }
}

/// Control among the keys that are held, in the DevTools protocol.
const CONTROL: u32 = 2;

/// A key's number in `KeyboardEvent.keyCode`.
fn key_code(key: &str) -> u32 {
    match key {
        "Tab" => 9,
        "Enter" => 13,
        "Escape" => 27,
        "End" => 35,
        "Home" => 36,
        "ArrowLeft" => 37,
        "ArrowUp" => 38,
        "ArrowRight" => 39,
        "ArrowDown" => 40,
        key if key.len() == 1 => key.as_bytes()[0].to_ascii_uppercase().into(),
        key => panic!("the tests know no number of the key {key}"),
    }
}

/// The beginning of an expression.
fn shown(expression: &str) -> String {
    expression.chars().take(200).collect()
}
