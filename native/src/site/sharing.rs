//! Which pages of other origins may read a site's models.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Result, bail};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::page::INDEX;

/// Folder of a site's model files.
const FILES: &str = "files";

/// An origin whose pages may read the models, such as `https://example.org`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_origin = || {
            // Browsers send it in this form: lower case, no slash at the end.
            let uri: Uri = text.parse().ok()?;
            let written = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
            (written.eq_ignore_ascii_case(text) && !written.contains('@')).then_some(())
        };
        if text != "*" && is_origin().is_none() {
            bail!("expected an origin such as https://example.org, without a path, or *, found {text}");
        }
        Ok(Self(HeaderValue::from_str(&text.to_ascii_lowercase())?))
    }
}

/// Lets these origins read a site's models: an answer's headers.
pub(super) async fn share(State(origins): State<Arc<[Origin]>>, request: Request, next: Next) -> Response {
    let is_shared = !origins.is_empty() && is_of_model(request.uri().path());
    let asking = request.headers().get(header::ORIGIN).cloned();
    let mut answer = next.run(request).await;
    if is_shared {
        allow(&origins, asking, answer.headers_mut());
    }
    answer
}

fn allow(origins: &[Origin], asking: Option<HeaderValue>, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    let allowed = origins.iter().find(|origin| origin.0 == "*" || Some(&origin.0) == asking.as_ref());
    if let Some(Origin(allowed)) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
    }
}

/// Whether a path is that of the list of models, or of a file of one.
fn is_of_model(path: &str) -> bool {
    let mut names = path.rsplit('/');
    names.next() == Some(INDEX) || names.next() == Some(FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_told_from_addresses() {
        for text in ["https://example.org", "http://localhost:5173", "HTTPS://Example.org", "*"] {
            assert_eq!(text.parse::<Origin>().unwrap().0, text.to_ascii_lowercase());
        }
        for text in
            ["example.org", "https://example.org/", "https://example.org/page", "https://me@example.org", "", "**"]
        {
            let error = text.parse::<Origin>().unwrap_err().to_string();
            assert!(error.contains("expected an origin such as https://example.org"), "{text}: {error}");
        }
    }

    #[test]
    fn the_page_is_no_model() {
        for path in ["/models.json", "/some/sub%20path/models.json", "/files/a.safetensors", "/site/files/b.json"] {
            assert!(is_of_model(path), "{path}");
        }
        for path in ["/", "/index.html", "/app.js", "/wasm/cpu.js", "/files", "/files/a/b"] {
            assert!(!is_of_model(path), "{path}");
        }
    }
}
