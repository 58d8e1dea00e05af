//! The hub's refusals, in words that help the user.

use anyhow::anyhow;
use ureq::http::{HeaderMap, StatusCode};

use super::{Failure, Hub, Wanted, header};

impl Hub {
    /// # Errors
    /// If the answer to a request for a file is a refusal.
    pub(super) fn refused(&self, status: StatusCode, headers: &HeaderMap, wanted: &Wanted) -> Result<(), Failure> {
        let Wanted { name, repo, revision, file, licence } = *wanted;
        let hub = self.name();
        let terms = licence.map_or_else(String::new, |licence| format!(" ({licence})"));
        // The hub says 401 of repositories that are not there, so that nobody can guess names of private ones.
        let reason = match (status.as_u16(), header(headers, "x-error-code").unwrap_or_default()) {
            (200..=399, _) => return Ok(()),
            (_, "RepoNotFound") if self.token.is_some() => {
                format!("{hub} has no model repository {repo} that this token may read: check the name and the token")
            }
            (_, "RepoNotFound") => {
                format!("{hub} has no model repository {repo} that everybody may read: check the name, or set HF_TOKEN")
            }
            (_, "RevisionNotFound") => format!("{hub} has no revision {revision} of {repo}: check what follows the @"),
            (401 | 403, _) if self.token.is_some() => format!(
                "{hub} refuses {name} to this token: accept the licence{terms} on the page of {repo}, and check the token"
            ),
            (401 | 403, _) => format!(
                "{hub} gives {name} only to users who accepted its licence{terms}: accept it on the page of {repo} and set HF_TOKEN"
            ),
            (404, "EntryNotFound") => format!("{hub} has no file {file} in {repo}"),
            (404, _) => format!("{hub} has no file {file} in {repo}: check HF_ENDPOINT"),
            (408 | 429 | 500.., _) => return Err(Failure::Again(anyhow!("it answers {status}"))),
            _ => format!("{hub} answers {status} when asked for {name}"),
        };
        Err(Failure::Final(anyhow!(reason)))
    }
}
