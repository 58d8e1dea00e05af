//! A real Chromium, driven through its DevTools protocol.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dinomaly_core::maps::score::AnomalyMap;
use headless_chrome::browser::tab::ModifierKey;
use headless_chrome::protocol::cdp::types::Event;
use headless_chrome::protocol::cdp::{Emulation, Input, Network, Page as PageDomain};
use headless_chrome::{Browser, LaunchOptions, Tab};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::engine::Engine;

/// How long anything may take; compiling shaders on an emulated GPU while other tests run does take long.
const PATIENCE: Duration = Duration::from_secs(180);

/// Keeps what `dinomaly:result` events say, in their order.
pub(super) const RESULTS: &str = "window.results = []; addEventListener('dinomaly:result', (event) => {
    const { map, ...rest } = event.detail;
    results.push({ ...rest, map: [...map] });
});";

/// A browser with a profile of its own.
pub struct Chrome {
    browser: Browser,
    profile: TempDir,
}

impl Chrome {
    /// Starts the Chromium that `CHROME` names, or that is installed.
    pub fn launch() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let net_log = format!("--log-net-log={}", profile.path().join("net-log.json").display());
        let args = [
            "--enable-unsafe-webgpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &net_log,
        ];
        let options = LaunchOptions::default_builder()
            .path(std::env::var_os("CHROME").map(PathBuf::from))
            .headless(true)
            .sandbox(false)
            .enable_gpu(true)
            .window_size(Some((1280, 1000)))
            .user_data_dir(Some(profile.path().join("profile")))
            .idle_browser_timeout(4 * PATIENCE)
            .args(args.map(OsStr::new).to_vec())
            .build()
            .unwrap();
        let browser = Browser::new(options).unwrap_or_else(|e| {
            panic!("Chromium cannot be started ({e}): install it (apt install chromium), or name another with CHROME")
        });
        Self { browser, profile }
    }

    /// Opens a page and listens to it from its first byte on.
    pub fn open(&self, url: &str) -> Page {
        let page = self.open_without_waiting(url);
        page.tab.wait_until_navigated().unwrap();
        page
    }

    /// [`Chrome::open`] for a page that may never be loaded wholly.
    pub fn open_without_waiting(&self, url: &str) -> Page {
        let tab = self.browser.new_tab().unwrap();
        tab.set_default_timeout(PATIENCE);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ears = heard.clone();
        tab.add_event_listener(Arc::new(move |event: &Event| ears.lock().unwrap().listen(event))).unwrap();
        tab.enable_log().unwrap();
        tab.enable_runtime().unwrap();
        tab.call_method(Network::Enable {
            max_total_buffer_size: None,
            max_resource_buffer_size: None,
            max_post_data_size: None,
            report_direct_socket_traffic: None,
            enable_durable_messages: None,
        })
        .unwrap();
        // Before anything of the page runs.
        tab.call_method(PageDomain::AddScriptToEvaluateOnNewDocument {
            source: RESULTS.into(),
            world_name: None,
            include_command_line_api: None,
            run_immediately: None,
        })
        .unwrap();
        tab.navigate_to(url).unwrap();
        Page { tab, heard }
    }

    /// Every address that a page asked the network for, workers included, as the browser itself noted it.
    pub fn requested(&self) -> Vec<String> {
        let log = fs::read_to_string(self.profile.path().join("net-log.json")).unwrap();
        let requests = log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches(',')).ok());
        requests
            .filter_map(|event| {
                let params = &event["params"];
                // What the browser does for itself has no initiator, or one of its own pages: its first tab is one.
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

/// What a page said and asked for.
#[derive(Default)]
struct Heard {
    complaints: Vec<String>,
    requests: Vec<String>,
}

impl Heard {
    fn listen(&mut self, event: &Event) {
        match event {
            Event::LogEntryAdded(event) => {
                let entry = &event.params.entry;
                self.complaints.push(format!("{:?} {:?}: {}", entry.level, entry.source, entry.text));
            }
            Event::RuntimeConsoleAPICalled(event) => {
                self.complaints.push(format!("console: {:?}", event.params.args));
            }
            Event::RuntimeExceptionThrown(event) => {
                self.complaints.push(format!("exception: {:?}", event.params.exception_details));
            }
            Event::NetworkRequestWillBeSent(event) => self.requests.push(event.params.request.url.clone()),
            _ => (),
        }
    }
}

/// An open page.
pub struct Page {
    tab: Arc<Tab>,
    heard: Arc<Mutex<Heard>>,
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
    /// The value of a JavaScript expression, awaited if it is a promise.
    pub fn eval(&self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|e| panic!("{}: {e}", shown(expression)))
    }

    /// [`Page::eval`], or why there is no page to ask, as in the middle of a reload.
    fn try_eval(&self, expression: &str) -> anyhow::Result<Value> {
        let wrapped = format!("(async () => JSON.stringify((await ({expression})) ?? null))()");
        let result = self.tab.evaluate(&wrapped, true)?;
        let text = result.value.unwrap_or_else(|| panic!("{}: {:?}", shown(expression), result.description));
        Ok(serde_json::from_str(text.as_str().unwrap_or_else(|| panic!("{}: {text}", shown(expression)))).unwrap())
    }

    /// Waits until an expression is true, also over reloads.
    pub fn wait_for(&self, expression: &str) {
        let begun = Instant::now();
        while !self.try_eval(expression).is_ok_and(|value| value == Value::Bool(true)) {
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for {expression}; the page says {:?}, it complained {:?}",
                self.text("main"),
                self.complaints()
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
        let files = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        self.drop_on(id, &Input::DragData { items: Vec::new(), files: Some(files), drag_operations_mask: 1 });
    }

    /// Drops an address on the element with this id, as a link from another window.
    pub fn drop_address(&self, id: &str, address: &str) {
        let (mime_type, data) = ("text/uri-list".to_owned(), address.to_owned());
        let item = Input::DragDataItem { mime_type, data, title: None, base_url: None };
        self.drop_on(id, &Input::DragData { items: vec![item], files: None, drag_operations_mask: 1 });
    }

    fn drop_on(&self, id: &str, data: &Input::DragData) {
        let centre = self.eval(&format!(
            "(() => {{ const element = document.getElementById({id:?});
                element.scrollIntoView({{ block: 'center' }});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                return [x + width / 2, y + height / 2]; }})()",
        ));
        let (x, y) = (centre[0].as_f64().unwrap(), centre[1].as_f64().unwrap());
        use Input::DispatchDragEventTypeOption::{DragEnter, DragOver, Drop};
        for step in [DragEnter, DragOver, Drop] {
            let data = data.clone();
            self.tab.call_method(Input::DispatchDragEvent { Type: step, x, y, data, modifiers: None }).unwrap();
        }
    }

    /// Presses a key while Control is held.
    pub fn press_with_control(&self, key: &str) {
        self.tab.press_key_with_modifiers(key, Some(&[ModifierKey::Ctrl])).unwrap();
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
            self.tab.press_key(key).unwrap();
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
        self.heard.lock().unwrap().complaints.clone()
    }

    /// Addresses that the page itself, without workers, asked for.
    pub fn requested(&self) -> Vec<String> {
        self.heard.lock().unwrap().requests.clone()
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.tab.reload(false, None).unwrap();
        self.tab.wait_until_navigated().unwrap();
    }

    /// Shows the page as someone sees it who prefers dark or light.
    pub fn prefer(&self, scheme: &str) {
        let feature = Emulation::MediaFeature { name: "prefers-color-scheme".into(), value: scheme.into() };
        self.tab.call_method(Emulation::SetEmulatedMedia { media: None, features: Some(vec![feature]) }).unwrap();
    }

    /// Shows the page in a window of this size, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.tab
            .call_method(Emulation::SetDeviceMetricsOverride {
                width,
                height,
                device_scale_factor: 1.0,
                mobile: false,
                scale: None,
                screen_width: None,
                screen_height: None,
                position_x: None,
                position_y: None,
                dont_set_visible_size: None,
                screen_orientation: None,
                viewport: None,
                display_feature: None,
                device_posture: None,
            })
            .unwrap();
    }

    /// Keeps a picture of the page under `target/test-artifacts`.
    pub fn screenshot(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-artifacts");
        fs::create_dir_all(&folder).unwrap();
        let png =
            self.tab.capture_screenshot(PageDomain::CaptureScreenshotFormatOption::Png, None, None, true).unwrap();
        let path = folder.join(format!("{name}.png"));
        fs::write(&path, png).unwrap();
        println!("screenshot: {}", path.display());
    }
}

/// For tests that run in any browser.
impl Engine for Page {
    fn open(&self, url: &str) {
        self.tab.navigate_to(url).unwrap().wait_until_navigated().unwrap();
    }

    fn reload(&self) {
        self.reload();
    }

    fn evaluate(&self, expression: &str) -> Result<String, String> {
        let result = self.tab.evaluate(expression, true).map_err(|error| error.to_string())?;
        let text = result.value.as_ref().and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| format!("{:?}", result.description))
    }

    fn choose_files(&self, selector: &str, paths: &[PathBuf]) {
        let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        self.tab.find_element(selector).unwrap().set_input_files(&paths).unwrap();
    }
}

/// The beginning of an expression.
fn shown(expression: &str) -> String {
    expression.chars().take(200).collect()
}
