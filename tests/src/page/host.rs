//! A static web server with the habits of hosts that are not ours: headers of their own, files that stop in the middle.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a host does with some files.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// Sends this header with them, in the place of its own of that name.
    Header(&'static str, &'static str),
    /// Takes the request and never answers.
    Silent,
    /// Sends half of the content, then nothing more.
    Halved,
}

/// A server of a folder, until the process ends.
pub struct Host {
    /// Address of the folder, without the last slash.
    pub url: String,
    habits: Arc<Mutex<Vec<(&'static str, Habit)>>>,
}

impl Host {
    /// Serves a folder below `/site`, which is answered with its page as `/site/` is, without a redirect.
    pub fn serve(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/site", listener.local_addr().unwrap());
        let habits: Arc<Mutex<Vec<_>>> = Arc::default();
        let (kept, folder) = (habits.clone(), folder.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (habits, folder) = (kept.clone(), folder.clone());
                thread::spawn(move || {
                    // A browser that goes away is no fault of the server.
                    let _ = answer(stream, &folder, &habits);
                });
            }
        });
        Self { url, habits }
    }

    /// From now on does this with files whose path ends so.
    pub fn take_up(&self, end: &'static str, habit: Habit) {
        self.habits.lock().unwrap().push((end, habit));
    }

    /// From now on does nothing particular.
    pub fn mend(&self) {
        self.habits.lock().unwrap().clear();
    }
}

fn answer(mut stream: TcpStream, folder: &Path, habits: &Mutex<Vec<(&'static str, Habit)>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let name = match path.strip_prefix("/site") {
        Some("" | "/") => "index.html",
        Some(name) => name.trim_start_matches('/'),
        None => "none",
    };
    let mut headers = vec![("content-type", content_type(name)), ("cache-control", "no-store")];
    let (mut is_silent, mut is_halved) = (false, false);
    for (_, habit) in habits.lock().unwrap().iter().filter(|(end, _)| name.ends_with(end)) {
        match habit {
            Habit::Header(header, value) => {
                headers.retain(|(other, _)| other != header);
                headers.push((header, value));
            }
            Habit::Silent => is_silent = true,
            Habit::Halved => is_halved = true,
        }
    }
    if !is_silent {
        let file: Option<Vec<u8>> =
            Some(folder.join(name)).filter(|path: &PathBuf| path.is_file()).map(|path| fs::read(path).unwrap());
        let status = if file.is_some() { "200 OK" } else { "404 Not Found" };
        let content = file.unwrap_or_default();
        let headers: String = headers.iter().map(|(header, value)| format!("{header}: {value}\r\n")).collect();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", content.len())?;
        stream.write_all(if is_halved { &content[..content.len() / 2] } else { &content })?;
        stream.flush()?;
    }
    if is_silent || is_halved {
        // Until the browser has enough of it.
        reader.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn content_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
