//! A web server for a site, for this machine alone.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::routing::any;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use super::page::OFFLINE;

/// The port that is taken where none is asked for.
pub const DEFAULT_PORT: u16 = 8080;

/// A folder that is ready to be served on 127.0.0.1.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    router: Router,
    address: SocketAddr,
}

impl Server {
    /// Takes a port; 0 takes any free port. Files of the folder `page`, if one is given, are served in the place of the site's own.
    ///
    /// # Errors
    /// If there is no page in a folder, or another program has the port.
    pub fn bind(folder: &Path, page: Option<&Path>, port: u16) -> Result<Self> {
        if !folder.join("index.html").is_file() {
            bail!("{} holds no index.html: make a site with dinomaly site", folder.display());
        }
        if let Some(page) = page.filter(|page| !page.join("index.html").is_file()) {
            bail!("{} holds no index.html: --page needs the folder of the page's files", page.display());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener =
            runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port))).map_err(|e| match e.kind() {
                ErrorKind::AddrInUse => {
                    anyhow::anyhow!(
                        "port {port} is in use by another program: choose another with --port, or 0 for any free one"
                    )
                }
                _ => anyhow::Error::new(e).context(format!("port {port} cannot be taken")),
            })?;
        let address = listener.local_addr()?;
        Ok(Self { runtime, listener, router: router(folder, page), address })
    }

    /// [`Server::bind`] to the given port, or without one to [`DEFAULT_PORT`] or, if that is taken, to any that is free.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_or_any(folder: &Path, port: Option<u16>) -> Result<Self> {
        match port {
            Some(port) => Self::bind(folder, None, port),
            None => Self::bind(folder, None, DEFAULT_PORT).or_else(|_| Self::bind(folder, None, 0)),
        }
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves until `stop` is over.
    ///
    /// # Errors
    /// If the network fails.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { runtime, listener, router, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                served = axum::serve(listener, router).into_future() => served.context("the server stopped"),
                () = stop => Ok(()),
            }
        })
    }

    /// Serves until Ctrl-C.
    ///
    /// # Errors
    /// If the network fails.
    pub fn run(self) -> Result<()> {
        self.run_until(async {
            // Without a way to notice it, Ctrl-C ends the program all the same.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Files with their MIME types. `no-cache` lets browsers keep them but ask whether they changed.
fn router(folder: &Path, page: Option<&Path>) -> Router {
    let always = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    let site = ServeDir::new(folder);
    let files = match page {
        // Without the service worker's list the browser keeps nothing: a change is seen at the next load.
        Some(page) => Router::new()
            .route(&format!("/{OFFLINE}"), any(|| async { StatusCode::NOT_FOUND }))
            .fallback_service(ServeDir::new(page).fallback(site)),
        None => Router::new().fallback_service(site),
    };
    files.layer(always(header::CACHE_CONTROL, "no-cache")).layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn site() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("index.html", "<p>page"), ("a.js", "1"), ("a.wasm", "\0asm"), ("a.css", "")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn get(url: &str, path: &str) -> String {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_lowercase()
    }

    #[test]
    fn files_are_served_with_their_type_and_the_server_stops() {
        let folder = site();
        let server = Server::bind(folder.path(), None, 0).unwrap();
        let url = server.url();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = std::thread::spawn(|| server.run_until(async { drop(stopped.await) }));
        for (path, expected) in [
            ("/", "<p>page"),
            ("/", "content-type: text/html"),
            ("/a.js", "content-type: text/javascript"),
            ("/a.wasm", "content-type: application/wasm"),
            ("/a.css", "content-type: text/css"),
            ("/a.css", "cache-control: no-cache"),
            ("/a.css", "x-content-type-options: nosniff"),
            ("/missing", "http/1.1 404"),
            ("/../../etc/passwd", "http/1.1 404"),
        ] {
            let answer = get(&url, path);
            assert!(answer.contains(expected), "{path}: {answer}");
        }
        stop.send(()).unwrap();
        serving.join().unwrap().unwrap();
        assert!(TcpStream::connect(url.trim_start_matches("http://").trim_end_matches('/')).is_err());
    }

    #[test]
    fn files_of_another_page_are_read_at_each_request() {
        let (folder, page) = (site(), site());
        let style = page.path().join("a.css");
        fs::remove_file(page.path().join("a.js")).unwrap();
        fs::write(folder.path().join(OFFLINE), "list").unwrap();
        let server = Server::bind(folder.path(), Some(page.path()), 0).unwrap();
        let url = server.url();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = std::thread::spawn(|| server.run_until(async { drop(stopped.await) }));
        for content in ["first", "second"] {
            fs::write(&style, content).unwrap();
            assert!(get(&url, "/a.css").contains(content));
        }
        assert!(get(&url, "/a.js").ends_with('1'), "what the page's folder lacks is the site's");
        assert!(get(&url, "/offline.js").contains("http/1.1 404"));
        stop.send(()).unwrap();
        serving.join().unwrap().unwrap();
        let error = Server::bind(folder.path(), Some(Path::new("nowhere")), 0).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("nowhere holds no index.html: --page needs"), "{error}");
    }

    #[test]
    fn a_taken_port_and_an_empty_folder_get_a_sentence() {
        let folder = site();
        let first = Server::bind(folder.path(), None, 0).unwrap();
        let port = first.address.port();
        let error = Server::bind(folder.path(), None, port).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("port {port} is in use by another program: choose another with --port, or 0 for any free one")
        );
        let empty = tempfile::tempdir().unwrap();
        let error = Server::bind(empty.path(), None, 0).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("holds no index.html"), "{error}");
    }
}
