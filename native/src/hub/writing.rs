//! Requests that change a repository, and what the hub says against them.

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Body, RequestBuilder};

use super::{Failure, HUB, Hub, header, patiently};
use crate::system::shown::shown;

/// Longest sentence of the hub that is passed on, in characters.
const LONGEST: usize = 300;

/// What to do if the connection keeps breaking.
const AGAIN: &str = "run the command again; what was sent stays sent";

/// An answer of the hub's interface.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Null if it is no JSON.
    pub(super) json: Value,
    text: String,
}

impl Answer {
    fn of(mut answer: Response<Body>) -> Result<Self, Failure> {
        let text = answer.body_mut().read_to_string().map_err(|error| Failure::Again(error.into()))?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status: answer.status().as_u16(), headers: answer.headers().clone(), json, text })
    }

    pub(super) fn is_fine(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The hub's word for what is wrong, such as RepoNotFound.
    pub(super) fn code(&self) -> &str {
        header(&self.headers, "x-error-code").unwrap_or_default()
    }

    /// What the hub says itself, as an addition to a sentence.
    pub(super) fn says(&self, token: Option<&str>) -> String {
        let given = self.json["error"].as_str().or(header(&self.headers, "x-error-message"));
        let text = given.unwrap_or(if self.text.contains('<') { "" } else { &self.text });
        let line = text.lines().next().unwrap_or_default().trim();
        let line = token.map_or_else(|| line.to_owned(), |token| line.replace(token, "(token)"));
        let line: String = shown(&line).chars().take(LONGEST).collect();
        if line.is_empty() { line } else { format!(" ({line})") }
    }
}

impl Hub {
    /// The user's token.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn need_token(&self) -> Result<&str> {
        self.token.as_deref().with_context(|| {
            format!(
                "publishing needs a token of {} with the right to write: make one at {}/settings/tokens and set HF_TOKEN",
                self.name(),
                self.shown
            )
        })
    }

    /// Gets from the hub's interface. Refusals are answers.
    ///
    /// # Errors
    /// If the hub cannot be reached.
    pub(super) fn get(&self, address: &str) -> Result<Answer> {
        self.answered(|| self.signed(self.agent.get(address)).call())
    }

    /// Posts JSON to the hub's interface. Refusals are answers.
    ///
    /// # Errors
    /// If the hub cannot be reached.
    pub(super) fn post(&self, address: &str, json: &Value) -> Result<Answer> {
        self.post_as(address, "application/json", json.to_string().as_bytes(), |request| request)
    }

    /// Posts a body of this type, with what else `prepare` does to the request.
    ///
    /// # Errors
    /// If the hub cannot be reached.
    pub(super) fn post_as(
        &self,
        address: &str,
        kind: &str,
        body: &[u8],
        prepare: impl Fn(RequestBuilder<ureq::typestate::WithBody>) -> RequestBuilder<ureq::typestate::WithBody>,
    ) -> Result<Answer> {
        self.answered(|| {
            let request = self.signed(self.agent.post(address)).header("Content-Type", kind);
            prepare(request).send(body)
        })
    }

    /// An address of the hub itself, at the mirror that the user chose.
    pub(super) fn here(&self, address: &str) -> String {
        address.strip_prefix(HUB).map_or_else(|| address.to_owned(), |rest| format!("{}{rest}", self.endpoint))
    }

    /// # Errors
    /// If the hub cannot be reached.
    pub(super) fn answered(&self, request: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Answer> {
        patiently(&format!("{} cannot be asked", self.name()), AGAIN, || {
            let answer = Answer::of(request().map_err(|error| self.broken(error))?)?;
            match answer.status {
                408 | 429 | 500.. => {
                    let says = answer.says(self.token.as_deref());
                    Err(Failure::Again(anyhow!("it answers {}{says}", answer.status)))
                }
                _ => Ok(answer),
            }
        })
    }

    /// The refusal of a request that writes to a repository, or to its owner's place.
    pub(super) fn refusal(&self, answer: &Answer, what: &str) -> anyhow::Error {
        let (hub, says) = (self.name(), answer.says(self.token.as_deref()));
        let tokens = format!("{}/settings/tokens", self.shown);
        match answer.status {
            401 => anyhow!("{hub} does not know this token{says}: make a new one at {tokens} and set HF_TOKEN"),
            402 => anyhow!("{hub} asks for a payment for {what}{says}"),
            403 => anyhow!(
                "this token may not write to {what}{says}: make one with that right at {tokens}, or name another owner"
            ),
            409 | 412 => anyhow!("{what} was changed by others meanwhile{says}: run the command again"),
            status => anyhow!("{hub} answers {status} when {what} is written{says}"),
        }
    }
}
