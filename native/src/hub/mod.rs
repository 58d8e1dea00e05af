//! The Hugging Face Hub, or a mirror of it, with the usual variables: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE.
//! Files of repositories come through the cache that all its clients share; folders go there as one commit.
//!
//! Not by the hub's client for Rust: hf-hub 0.5 cannot finish a download that was killed at its last byte, and appends a whole file to
//! a part of it (findings/hf-hub-complete-part.sh, findings/hf-hub-retry-appends.sh); hf-hub 1.0 (`upload_lfs_files_via_xet`) puts large
//! files into the commit itself where a server answers with another transfer than Xet, and brings 101 crates that this program has not.

mod address;
mod cache;
mod commit;
mod download;
mod model;
mod objects;
mod refusal;
mod writing;

use std::env;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ureq::config::RedirectAuthHeaders;
use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, RequestBuilder};

pub use address::{Address, SCHEME};
pub use cache::{forget, is_cached};
pub use commit::{Committed, Publication, RepoKind};
pub use download::Wanted;
pub use objects::{Content, Upload};

use cache::Cache;

/// The hub itself.
const HUB: &str = "https://huggingface.co";

/// Number of times that what broke is tried again.
const RETRIES: u32 = 5;

/// First pause between attempts; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Longest wait for a connection, and for the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The hub and its local cache.
pub struct Hub {
    cache: Cache,
    endpoint: String,
    /// The endpoint in sentences.
    shown: String,
    offline: bool,
    token: Option<String>,
    /// Follows redirections.
    agent: Agent,
    /// Shows them instead.
    stepping: Agent,
}

/// Why an attempt failed.
enum Failure {
    /// Another attempt may succeed.
    Again(anyhow::Error),
    /// It will not.
    Final(anyhow::Error),
}

impl Hub {
    /// The hub that the environment configures.
    pub fn from_env() -> Self {
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
        let endpoint = env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| HUB.into()).trim_end_matches('/').to_owned();
        let cache = Cache::from_env();
        Self {
            token: cache.token(),
            cache,
            shown: without_password(&endpoint),
            endpoint,
            offline: ["1", "true", "yes", "on"].contains(&offline.as_str()),
            agent: agent(10),
            stepping: agent(0),
        }
    }

    /// The hub's name in sentences.
    fn name(&self) -> &str {
        if self.endpoint == HUB { "the hub" } else { &self.shown }
    }

    /// Why a request got no answer.
    fn broken(&self, error: ureq::Error) -> Failure {
        match error {
            // Its own words tell the password.
            ureq::Error::BadUri(_) => {
                Failure::Final(anyhow!("{} is no address of a hub: check HF_ENDPOINT", self.shown))
            }
            ureq::Error::Http(error) => {
                Failure::Final(anyhow!("{} cannot be asked ({error}): check HF_ENDPOINT and HF_TOKEN", self.shown))
            }
            error => Failure::Again(error.into()),
        }
    }

    /// A request in the user's name.
    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }
}

/// Tries until it succeeds, fails for good, or has failed too often: the last error then, with what was tried and what to do.
fn patiently<T>(what: &str, advice: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    let mut pause = FIRST_PAUSE;
    for retry in 0.. {
        match attempt() {
            Ok(result) => return Ok(result),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again(error)) if retry == RETRIES => return Err(anyhow!("{what} ({error:#}): {advice}")),
            Err(Failure::Again(_)) => std::thread::sleep(pause),
        }
        pause *= 2;
    }
    unreachable!("the last attempt returns")
}

/// A client that follows so many redirections, and trusts the authorities that this machine trusts (SSL_CERT_FILE, too).
fn agent(redirects: u32) -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(redirects)
        .max_redirects_will_error(false)
        // Not sent on to the host that the content lies on.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .timeout_per_write(Some(PATIENCE))
        .build();
    config.into()
}

/// An address without its user and password.
fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or((None, address), |(scheme, rest)| (Some(scheme), rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    scheme.map_or_else(|| format!("{host}{path}"), |scheme| format!("{scheme}://{host}{path}"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Sizes in progress bars.
fn megabytes(bytes: u64) -> usize {
    (bytes >> 20) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (address, shown) in [
            ("https://ann:s3cret@mirror:8080/hf", "https://mirror:8080/hf"),
            ("http://ann:s3@cret@mirror", "http://mirror"),
            ("ann:s3cret@mirror/hf", "mirror/hf"),
            ("https://mirror/a@b", "https://mirror/a@b"),
        ] {
            assert_eq!(without_password(address), shown);
        }
    }
}
