//! A small web server for a site, for this machine alone unless it is told another address.

use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use super::page::OFFLINE;
use super::requests::{self, Rules};
use super::sharing::{self, Origin};
use crate::system::interrupt::Interrupt;

/// The port that is taken where none is asked for.
pub const DEFAULT_PORT: u16 = 8080;

/// The address that is taken where none is asked for: only this machine can connect.
pub const DEFAULT_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Longest wait for the rest of a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that is ready to be served.
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
        Self::bind_at(folder, page, DEFAULT_HOST, port, &[])
    }

    /// [`Server::bind`] at an address of this machine; other machines can connect if it is not a loopback address. Pages of `origins` may
    /// read the site's models.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_at(folder: &Path, page: Option<&Path>, host: IpAddr, port: u16, origins: &[Origin]) -> Result<Self> {
        if !folder.join("index.html").is_file() {
            bail!("{} holds no index.html: make a site with dinomaly site", folder.display());
        }
        if let Some(page) = page.filter(|page| !page.join("index.html").is_file()) {
            bail!("{} holds no index.html: --page needs the folder of the page's files", page.display());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((host, port))).map_err(|e| match e.kind() {
            ErrorKind::AddrInUse => {
                anyhow::anyhow!(
                    "port {port} is in use by another program: choose another with --port, or 0 for any free one"
                )
            }
            _ => anyhow::Error::new(e).context(format!("port {port} of {host} cannot be taken")),
        })?;
        let address = listener.local_addr()?;
        let router = router(folder, page, host.is_loopback(), origins);
        Ok(Self { runtime, listener, router, address })
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
        match self.address.ip().is_unspecified() {
            true => format!("http://THIS-MACHINE:{}/", self.address.port()),
            false => format!("http://{}/", self.address),
        }
    }

    /// Serves until `stop` is over.
    pub fn run_until(self, stop: impl Future<Output = ()>) {
        let Self { runtime, listener, router, .. } = self;
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, router) => {}
                () = stop => {}
            }
        });
    }

    /// Serves until `interrupt` asks to stop.
    pub fn run(self, interrupt: &Interrupt) {
        self.run_until(async {
            while !interrupt.asked() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    }
}

/// Answers each connection in a task of its own.
async fn accept(listener: TcpListener, router: Router) {
    loop {
        // A connection that was given up, or too many at a time: the next may succeed.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            // A browser that goes away is no fault of the server.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Files with their MIME types. `no-cache` lets browsers keep them but ask whether they changed.
fn router(folder: &Path, page: Option<&Path>, is_local: bool, origins: &[Origin]) -> Router {
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
    let folders = page.into_iter().chain([folder]).map(Path::to_owned).collect();
    let same_origin = HeaderName::from_static("cross-origin-resource-policy");
    files
        .layer(from_fn_with_state(Arc::new(Rules { folders, is_local }), requests::check))
        .layer(always(header::CACHE_CONTROL, "no-cache"))
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(same_origin, "same-origin"))
        .layer(always(header::CONTENT_SECURITY_POLICY, "frame-ancestors 'self'"))
        .layer(from_fn_with_state(Arc::from(origins), sharing::share))
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
        get_as(url.trim_start_matches("http://").trim_end_matches('/'), url, path)
    }

    fn get_as(host: &str, url: &str, path: &str) -> String {
        get_with(&format!("Host: {host}"), url, path)
    }

    fn get_with(headers: &str, url: &str, path: &str) -> String {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n").unwrap();
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
            ("/a.css", "content-security-policy: frame-ancestors 'self'"),
            ("/a.css", "cross-origin-resource-policy: same-origin"),
            ("/missing", "http/1.1 404"),
            ("/.hidden", "http/1.1 404"),
            ("/../../etc/passwd", "http/1.1 404"),
        ] {
            let answer = get(&url, path);
            assert!(answer.contains(expected), "{path}: {answer}");
        }
        assert!(get_as("example.org", &url, "/").starts_with("http/1.1 421"), "another page's name for this machine");
        stop.send(()).unwrap();
        serving.join().unwrap();
        assert!(TcpStream::connect(url.trim_start_matches("http://").trim_end_matches('/')).is_err());
    }

    #[test]
    fn models_are_shared_with_the_origins_that_are_named_and_nothing_else_is() {
        let folder = site();
        fs::create_dir(folder.path().join("files")).unwrap();
        for name in ["models.json", "files/a.safetensors"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        let ask = |origins: &[&str], origin: &str, path: &str| {
            let origins: Vec<Origin> = origins.iter().map(|origin| origin.parse().unwrap()).collect();
            let server = Server::bind_at(folder.path(), None, DEFAULT_HOST, 0, &origins).unwrap();
            let url = server.url();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let serving = std::thread::spawn(|| server.run_until(async { drop(stopped.await) }));
            let answer = get_with(&format!("Host: localhost\r\nOrigin: {origin}"), &url, path);
            stop.send(()).unwrap();
            serving.join().unwrap();
            assert!(answer.starts_with("http/1.1 200"), "{answer}");
            answer
        };
        let (ours, foreign) = ("https://example.org", "https://other.org");
        for path in ["/models.json", "/files/a.safetensors"] {
            let answer = ask(&["http://localhost:5173", ours], ours, path);
            let expected = [
                "access-control-allow-origin: https://example.org\r\n",
                "vary: origin",
                "resource-policy: cross-origin",
            ];
            assert!(expected.iter().all(|header| answer.contains(header)), "{answer}");
            let refused = ask(&[ours], foreign, path);
            assert!(!refused.contains("allow-origin") && refused.contains("vary: origin"), "{refused}");
            assert!(ask(&["*"], foreign, path).contains("access-control-allow-origin: *\r\n"));
            let alone = ask(&[], ours, path);
            assert!(!alone.contains("allow-origin") && alone.contains("resource-policy: same-origin"), "{alone}");
        }
        let page = ask(&["*"], ours, "/a.js");
        assert!(!page.contains("allow-origin") && page.contains("resource-policy: same-origin"), "{page}");
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
        serving.join().unwrap();
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
