//! A real WebKitGTK, driven through WebDriver, on a screen in memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chrome::RESULTS;
use super::engine::{Engine, PATIENCE};

/// Name under which WebDriver hands over an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with a profile of its own and one page.
pub struct WebKit {
    /// Driver and screen, which end with it.
    processes: [Child; 2],
    port: u16,
    session: String,
}

impl WebKit {
    /// Starts the WebKitGTK that is installed.
    pub fn launch() -> Self {
        let (screen, display) = screen();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new("WebKitWebDriver")
            .arg(format!("--port={port}"))
            .envs([("DISPLAY", display.as_str()), ("GDK_BACKEND", "x11"), ("LIBGL_ALWAYS_SOFTWARE", "1")])
            // As root there is no other way, and it sees nothing but our own pages.
            .env("WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("WebKitGTK cannot be started: install it (apt install webkit2gtk-driver)");
        let mut webkit = Self { processes: [driver, screen], port, session: String::new() };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "WebKitWebDriver does not listen");
            thread::sleep(Duration::from_millis(50));
        }
        let options = json!({ "binary": browser(), "args": ["--automation"] });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "webkitgtk:browserOptions": options } } });
        let begun = webkit.ask("POST", "/session", &wanted).unwrap();
        webkit.session = format!("/session/{}", begun["sessionId"].as_str().unwrap());
        let patience = PATIENCE.as_millis();
        webkit.command("timeouts", &json!({ "script": patience, "pageLoad": patience }));
        webkit
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.try_command(name, body).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn try_command(&self, name: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", &format!("{}/{name}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut answer: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {head}"))?;
        let value = answer["value"].take();
        if head.lines().next().is_some_and(|line| line.contains(" 200 ")) { Ok(value) } else { Err(value.to_string()) }
    }
}

impl Engine for WebKit {
    fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
        self.evaluate(&format!("(async () => {{ {RESULTS} return 'kept'; }})()")).unwrap();
    }

    fn reload(&self) {
        self.command("refresh", &json!({}));
        self.evaluate(&format!("(async () => {{ {RESULTS} return 'kept'; }})()")).unwrap();
    }

    fn evaluate(&self, expression: &str) -> Result<String, String> {
        let script = format!("({expression}).then(arguments[0], (error) => arguments[0]({{ error: String(error) }}))");
        let value = self.try_command("execute/async", &json!({ "script": script, "args": [] }))?;
        value.as_str().map(str::to_owned).ok_or_else(|| value.to_string())
    }

    fn choose_files(&self, selector: &str, paths: &[PathBuf]) {
        let found = self.command("element", &json!({ "using": "css selector", "value": selector }));
        let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        let element = found[ELEMENT].as_str().unwrap();
        self.command(&format!("element/{element}/value"), &json!({ "text": paths.join("\n") }));
    }
}

impl Drop for WebKit {
    fn drop(&mut self) {
        // Ends the browser, too.
        let _ = self.ask("DELETE", &self.session, &json!({}));
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A screen in memory, and its name.
fn screen() -> (Child, String) {
    let mut screen = Command::new("Xvfb")
        .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1280x1000x24"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Xvfb cannot be started: install it (apt install xvfb)");
    let mut number = String::new();
    BufReader::new(screen.stdout.as_mut().unwrap()).read_line(&mut number).unwrap();
    (screen, format!(":{}", number.trim()))
}

/// The small browser that comes with the driver.
fn browser() -> PathBuf {
    let folder = PathBuf::from(format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let paths = ["webkitgtk-6.0", "webkit2gtk-4.1", "webkit2gtk-4.0"].map(|name| folder.join(name).join("MiniBrowser"));
    let found = paths.into_iter().find(|path| Path::new(path).is_file());
    found.expect("WebKitGTK's MiniBrowser is missing: install it (apt install webkit2gtk-driver)")
}
