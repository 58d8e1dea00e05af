//! The JSON messages over a WebSocket by which Chromium (DevTools protocol) and Firefox (WebDriver BiDi) are driven.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::Child;
use std::thread;

use serde_json::{Value, json};
use tungstenite::client::client_with_config;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::engine::PATIENCE;

/// A connection to a browser or to one of its pages.
pub struct Socket {
    stream: RefCell<WebSocket<TcpStream>>,
    last: Cell<u64>,
}

impl Socket {
    /// Connects to a `ws://` address.
    pub fn connect(url: &str) -> Self {
        let rest = url.strip_prefix("ws://").expect("an address that begins with ws://");
        let stream = TcpStream::connect(rest.split('/').next().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Maps of many photos are long messages.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (stream, _) = client_with_config(url, stream, Some(config)).unwrap();
        Self { stream: RefCell::new(stream), last: Cell::new(0) }
    }

    /// Sends a command and waits for its answer. Events that come before it go to `hear`.
    ///
    /// # Errors
    /// The browser's answer if it refuses.
    pub fn ask(&self, method: &str, params: &Value, mut hear: impl FnMut(Value)) -> Result<Value, Value> {
        let id = self.last.get() + 1;
        self.last.set(id);
        let request = json!({ "id": id, "method": method, "params": params });
        self.stream.borrow_mut().send(Message::text(request.to_string())).unwrap();
        loop {
            let mut answer = self.next(method);
            if answer["id"] == id {
                return answer.get_mut("result").map(Value::take).ok_or(answer);
            }
            hear(answer);
        }
    }

    /// The next message.
    pub fn next(&self, awaited: &str) -> Value {
        loop {
            let message = self.stream.borrow_mut().read();
            let message = message.unwrap_or_else(|error| panic!("the browser did not answer {awaited}: {error}"));
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

/// Address at which a browser that was just started listens: the rest of the line on its standard error that begins with `announced`.
pub fn listening(process: &mut Child, announced: &str) -> String {
    let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = said.find_map(|line| Some(line.split_once(announced)?.1.trim().to_owned()));
    // Else it would wait for a reader of what it says.
    thread::spawn(move || said.for_each(drop));
    address.expect("the browser ended at once")
}
