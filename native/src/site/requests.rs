//! What the server of a site refuses: foreign names of this machine, hidden files, links out of the folder, names that are too long.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Longest name of a file, in bytes, on the usual file systems.
const LONGEST: usize = 255;

/// What may be asked for.
#[derive(Debug)]
pub(super) struct Rules {
    /// The folders that are served.
    pub(super) folders: Vec<PathBuf>,
    /// Whether only this machine can connect: then requests must name it, or a page elsewhere could read this one under a name that
    /// it lets point here.
    pub(super) is_local: bool,
}

/// Answers a request that a rule forbids, and hands on any other.
pub(super) async fn check(State(rules): State<Arc<Rules>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if rules.is_local && !names_this_machine(host) {
        let reason = "this server answers requests for 127.0.0.1 and localhost only";
        return (StatusCode::MISDIRECTED_REQUEST, reason).into_response();
    }
    if !rules.allows(request.uri().path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    next.run(request).await
}

impl Rules {
    /// Whether a path leads to no hidden file and, if it exists, to one inside a folder.
    fn allows(&self, path: &str) -> bool {
        let Ok(path) = percent_encoding::percent_decode_str(path).decode_utf8() else { return false };
        let names = || path.split('/').filter(|name| !name.is_empty());
        if names().any(|name| name.starts_with('.') || name.len() > LONGEST) {
            return false;
        }
        let relative: PathBuf = names().collect();
        self.folders.iter().all(|folder| is_inside(folder, &folder.join(&relative)))
    }
}

/// Whether a file, with all links followed, lies in a folder. One that does not exist is nowhere else.
fn is_inside(folder: &Path, file: &Path) -> bool {
    match (folder.canonicalize(), file.canonicalize()) {
        (Ok(folder), Ok(file)) => file.starts_with(folder),
        _ => true,
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:80", "127.1.2.3"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in
            ["", "example.org", "localhost.example.org", "127.0.0.1.example.org:80", "10.0.0.1", "192.168.1.9:8080"]
        {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn hidden_files_and_links_out_of_the_folder_are_not_there() {
        let [outside, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(folder.path().join("a.js"), "1").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
        let rules = Rules { folders: vec![folder.path().to_owned()], is_local: true };
        let long = "x".repeat(300);
        for path in ["/", "/a.js", "/missing", "/a%2Ejs"] {
            assert!(rules.allows(path), "{path}");
        }
        for path in ["/.git/config", "/%2egit/config", "/../secret", "/%2e%2e/secret", "/%ff", &format!("/{long}")] {
            assert!(!rules.allows(path), "{path}");
        }
        #[cfg(unix)]
        assert!(!rules.allows("/link"));
    }
}
