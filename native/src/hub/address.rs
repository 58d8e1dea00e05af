//! Places on the hub: `hf:OWNER/NAME`, `hf:OWNER/NAME/FOLDER`, each with `@REVISION` if it is not the branch `main`.

use std::fmt::{Display, Formatter};

use anyhow::{Result, bail};

/// How a place on the hub begins.
pub const SCHEME: &str = "hf:";

/// The branch that is meant if none is named.
pub const MAIN: &str = "main";

/// Longest name of a repository, owner included.
const LONGEST: usize = 96;

/// A repository, or a folder in it, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `OWNER/NAME`.
    pub repo: String,
    /// Folder inside of the repository; empty if it is the repository itself.
    pub folder: String,
    /// Branch, tag or commit, if one is named.
    pub revision: Option<String>,
}

impl Address {
    /// Reads a place.
    ///
    /// # Errors
    /// If it does not begin with `hf:`, has no owner, or a name that the hub does not allow.
    pub fn parse(text: &str) -> Result<Self> {
        let form = "write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION";
        let Some(place) = text.strip_prefix(SCHEME) else {
            bail!("{text} is no place on the hub: {form}");
        };
        let (path, revision) = place.split_once('@').map_or((place, None), |(path, revision)| (path, Some(revision)));
        let mut parts = path.splitn(3, '/');
        let (owner, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let folder = parts.next().unwrap_or_default();
        if owner.is_empty() || name.is_empty() {
            bail!("{text} names no owner of the repository: {form}");
        }
        if !is_name(owner) || !is_name(name) || name.ends_with(".git") || owner.len() + name.len() >= LONGEST {
            bail!(
                "{text} is no name of a repository: owner and name are letters, digits, - _ and . with a letter or digit at \
                 both ends, at most {LONGEST} together"
            );
        }
        if !folder.is_empty() && !is_path(folder) {
            bail!("{text} names no folder of a repository: {form}");
        }
        if revision.is_some_and(|revision| !is_path(revision)) {
            bail!("{text} names no branch, tag or commit after its @: {form}");
        }
        let revision = revision.map(str::to_owned);
        Ok(Self { repo: format!("{owner}/{name}"), folder: folder.to_owned(), revision })
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(MAIN)
    }

    /// Path in the repository of a file of the folder.
    pub fn file(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// Owner and name of the repository.
    pub fn owner_and_name(&self) -> (&str, &str) {
        self.repo.split_once('/').unwrap_or(("", &self.repo))
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{SCHEME}{}", self.repo)?;
        if !self.folder.is_empty() {
            write!(f, "/{}", self.folder)?;
        }
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

/// Whether a revision is a commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether a text is a path that stays below the folder that it is appended to.
fn is_path(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
    };
    text.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written_again() {
        for (text, repo, folder, revision) in [
            ("hf:acme/screws", "acme/screws", "", "main"),
            ("hf:acme/screws@v1.0", "acme/screws", "", "v1.0"),
            ("hf:a-b/c_d.e@refs/pr/1", "a-b/c_d.e", "", "refs/pr/1"),
            ("hf:acme/all/metal/nut@next", "acme/all", "metal/nut", "next"),
        ] {
            let place = Address::parse(text).unwrap();
            assert_eq!((place.repo.as_str(), place.folder.as_str(), place.revision()), (repo, folder, revision));
            assert_eq!(place.to_string(), text);
        }
        assert_eq!(Address::parse("hf:a/b/c").unwrap().file("manifest.json"), "c/manifest.json");
        assert_eq!(Address::parse("hf:a/b").unwrap().file("manifest.json"), "manifest.json");
    }

    #[test]
    fn what_the_hub_does_not_allow_is_refused() {
        for (text, reason) in [
            ("acme/screws", "no place on the hub"),
            ("hf:screws", "no owner"),
            ("hf:/screws", "no owner"),
            ("hf:acme/", "no owner"),
            ("hf:acme/two--dashes", "no name"),
            ("hf:acme/..", "no name"),
            ("hf:acme/-x", "no name"),
            ("hf:acme/x.git", "no name"),
            ("hf:acme/ä", "no name"),
            ("hf:acme/x@", "after its @"),
            ("hf:acme/x@../../y", "after its @"),
            ("hf:acme/x@/y", "after its @"),
            ("hf:acme/x/../y", "no folder"),
            ("hf:acme/x/", ""),
        ] {
            let parsed = Address::parse(text);
            if reason.is_empty() {
                assert_eq!(parsed.unwrap().folder, "");
                continue;
            }
            let error = parsed.unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{text}: {error}");
        }
    }
}
