//! Files → one commit of a repository, which is made if it is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::address::MAIN;
use super::download::{step, steps};
use super::objects::{Measured, Upload};
use super::writing::Answer;
use super::{Address, Hub, header};
use crate::system::ownership::{Content as Owned, Owner};

/// Longest wait for a commit, which the hub makes of many files.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// Most pages of a repository's list of files.
const PAGES: usize = 1000;

/// Files that the hub puts into a new repository.
const ATTRIBUTES: &str = ".gitattributes";
const README: &str = "README.md";

/// How the hub's README of a new Space ends.
const GUIDE: &str = "Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference";

/// Kind of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// A model.
    Model,
    /// A page that the hub shows.
    StaticSpace,
}

/// What to publish, and where.
pub struct Publication<'a> {
    /// Repository, and branch.
    pub place: &'a Address,
    /// Kind of repository.
    pub kind: RepoKind,
    /// Whether only its owner sees it, if it is made.
    pub private: bool,
    /// Title of the commit.
    pub message: &'a str,
    /// All files, with paths in the repository.
    pub files: &'a [Upload],
    /// Files that are written only if the repository has none of that path.
    pub if_absent: &'a [Upload],
    /// Says which files of an earlier publication are ours.
    pub owner: &'a Owner,
    /// Whether files of others may be replaced.
    pub replace: bool,
}

/// A publication that was made.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The new commit, or the branch's last one if all files were there already.
    pub commit: String,
    /// Page of the repository.
    pub page: String,
    /// Whether the repository was made.
    pub is_new: bool,
    /// Whether all files were there already.
    pub is_unchanged: bool,
    /// Bytes of large files that had to be sent.
    pub sent: u64,
    /// Files of an earlier publication that were removed.
    pub removed: Vec<String>,
}

/// A file that a repository has.
struct Present {
    bytes: u64,
    /// Git's name of the content, and of a large one the SHA-256.
    names: [Option<String>; 2],
}

/// A repository while it is written to.
struct Target<'a> {
    place: &'a Address,
    kind: RepoKind,
    branch: &'a str,
    what: String,
}

impl RepoKind {
    /// In addresses of the hub's interface.
    fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::StaticSpace => "spaces",
        }
    }

    /// In addresses of pages, files and large files.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::StaticSpace => "spaces/",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Model => "model repository",
            Self::StaticSpace => "Space",
        }
    }
}

impl Present {
    fn holds(&self, file: &Measured<'_>) -> Result<bool> {
        if self.bytes != file.bytes {
            return Ok(false);
        }
        let [git, large] = &self.names;
        Ok(match large {
            Some(large) => *large == file.sha256,
            None => *git == Some(file.git_name()?),
        })
    }
}

impl Hub {
    /// Publishes files as one commit. The repository and the branch are made if they are not there. Files of an earlier publication that
    /// are not among the new ones are removed; all others stay.
    ///
    /// # Errors
    /// If there is no token, the hub refuses, or files of others are in the way; the repository has the files it had then.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Committed> {
        let Publication { place, kind, .. } = *publication;
        self.need_token()?;
        self.refuse_offline("publishing")?;
        let target = Target { place, kind, branch: place.revision(), what: format!("{} {}", kind.name(), place.repo) };
        let is_new = self.make(&target, publication.private)?;
        let head = self.head(&target)?;
        let present = self.present(&target, &head)?;
        let earlier = self.earlier(&target, &head, &present, publication.owner)?;
        let is_fresh = is_new || self.is_fresh(&target, &head, &present)?;
        let absent = publication.if_absent.iter().filter(|file| is_fresh || !present.contains_key(&file.path));
        let files = publication.files.iter().chain(absent);
        let files = files.map(Upload::measured).collect::<Result<Vec<_>>>()?;
        let own: BTreeSet<&str> = files.iter().map(|file| file.upload.path.as_str()).collect();
        let kept =
            |path: &String| own.contains(path.as_str()) || publication.if_absent.iter().any(|file| file.path == *path);
        let ours: BTreeSet<String> = earlier.iter().cloned().collect();
        let removed: Vec<String> = earlier.into_iter().filter(|path| !kept(path)).collect();
        let mut changed = Vec::new();
        for file in files {
            let there = present.get(&file.upload.path);
            if !there.map_or(Ok(false), |there| there.holds(&file))? {
                changed.push(file);
            }
        }
        if !is_fresh && !publication.replace {
            let foreign = changed.iter().map(|file| file.upload.path.as_str());
            let foreign = foreign.filter(|path| present.contains_key(*path) && !ours.contains(*path));
            refuse_foreign(&target, &foreign.collect::<Vec<_>>())?;
        }
        let page = format!("{}/{}{}", self.shown, kind.prefix(), place.repo);
        if changed.is_empty() && removed.is_empty() {
            return Ok(Committed { commit: head, page, is_new, is_unchanged: true, sent: 0, removed });
        }
        let modes = self.modes(&self.interface(&target, "preupload"), &target.what, &changed)?;
        let is_large = |file: &Measured<'_>| modes.get(&file.upload.path).copied().unwrap_or_default();
        let large: Vec<&Measured<'_>> = changed.iter().filter(|file| is_large(file)).collect();
        let store = format!("{}/{}{}.git/info/lfs/objects/batch", self.endpoint, kind.prefix(), place.repo);
        let sent = if large.is_empty() { 0 } else { self.send(&store, target.branch, &target.what, &large)? };

        let title = json!({"summary": publication.message, "description": "", "parentCommit": head});
        let mut lines = vec![json!({"key": "header", "value": title})];
        for file in &changed {
            lines.push(file.line(is_large(file))?);
        }
        lines.extend(removed.iter().map(|path| json!({"key": "deletedFile", "value": {"path": path}})));
        let commit = self.commit(&target, &lines, &changed, &removed)?;
        Ok(Committed { commit, page, is_new, is_unchanged: false, sent, removed })
    }

    fn interface(&self, target: &Target<'_>, verb: &str) -> String {
        let Target { place, kind, branch, .. } = target;
        format!("{}/api/{}/{}/{verb}/{}", self.endpoint, kind.plural(), place.repo, step(branch))
    }

    /// Makes the repository and the branch if they are not there. Whether the repository is new.
    fn make(&self, target: &Target<'_>, private: bool) -> Result<bool> {
        let Target { place, kind, branch, what } = target;
        let mut answer = self.get(&self.interface(target, "revision"))?;
        let is_missing = |answer: &Answer| {
            answer.code() == "RepoNotFound" || (matches!(answer.status, 401 | 404) && answer.code().is_empty())
        };
        let mut is_new = false;
        if is_missing(&answer) {
            let (owner, name) = place.owner_and_name();
            let mut wish = json!({"name": name, "organization": owner});
            wish["type"] = match kind {
                RepoKind::Model => "model",
                RepoKind::StaticSpace => "space",
            }
            .into();
            if *kind == RepoKind::StaticSpace {
                wish["sdk"] = "static".into();
            }
            if private {
                wish["visibility"] = "private".into();
            }
            let made = self.post(&format!("{}/api/repos/create", self.endpoint), &wish)?;
            // 409: somebody else made it meanwhile.
            if !made.is_fine() && made.status != 409 {
                return Err(self.refusal(&made, what));
            }
            is_new = made.is_fine();
            answer = self.get(&self.interface(target, "revision"))?;
        }
        if answer.code() == "RevisionNotFound" && *branch != MAIN {
            let made = self.post(&self.interface(target, "branch"), &json!({}))?;
            if !made.is_fine() && made.status != 409 {
                return Err(self.refusal(&made, what));
            }
        } else if !answer.is_fine() {
            return Err(self.refusal(&answer, what));
        }
        Ok(is_new)
    }

    /// The branch's last commit.
    fn head(&self, target: &Target<'_>) -> Result<String> {
        let answer = self.get(&self.interface(target, "revision"))?;
        if !answer.is_fine() {
            return Err(self.refusal(&answer, &target.what));
        }
        let commit = answer.json["sha"].as_str();
        let commit =
            commit.with_context(|| format!("{} does not say the last commit of {}", self.name(), target.what))?;
        Ok(commit.to_owned())
    }

    /// Whether nobody has committed anything yet, but for what the hub puts into a new repository. One commit may hold files of others,
    /// too: that of a history that was squashed.
    fn is_fresh(&self, target: &Target<'_>, commit: &str, present: &BTreeMap<String, Present>) -> Result<bool> {
        if present.keys().any(|path| path != ATTRIBUTES && path != README) {
            return Ok(false);
        }
        if present.contains_key(README) && !is_template(&self.text(target, commit, README)?) {
            return Ok(false);
        }
        let answer = self.get(&self.interface(target, "commits"))?;
        if !answer.is_fine() {
            return Err(self.refusal(&answer, &target.what));
        }
        Ok(answer.json.as_array().is_some_and(|commits| commits.len() <= 1))
    }

    /// A small file of a commit.
    fn text(&self, target: &Target<'_>, commit: &str, path: &str) -> Result<String> {
        let Target { place, kind, .. } = target;
        let address = format!("{}{}/resolve/{commit}/{}", kind.prefix(), place.repo, steps(path));
        let answer = self.get(&format!("{}/{address}", self.endpoint))?;
        if !answer.is_fine() {
            return Err(self.refusal(&answer, &target.what));
        }
        Ok(answer.text().to_owned())
    }

    /// All files of a commit.
    fn present(&self, target: &Target<'_>, commit: &str) -> Result<BTreeMap<String, Present>> {
        let mut present = BTreeMap::new();
        let at = Target { branch: commit, what: target.what.clone(), ..*target };
        let mut address = format!("{}?recursive=true", self.interface(&at, "tree"));
        for _ in 0..PAGES {
            let answer = self.get(&address)?;
            // A repository without a file has no tree.
            if answer.status == 404 && answer.code() == "EntryNotFound" {
                return Ok(present);
            }
            if !answer.is_fine() {
                return Err(self.refusal(&answer, &target.what));
            }
            for entry in answer.json.as_array().into_iter().flatten() {
                let (Some(path), Some("file")) = (entry["path"].as_str(), entry["type"].as_str()) else { continue };
                let name = |value: &Value| value.as_str().map(str::to_owned);
                let names = [name(&entry["oid"]), name(&entry["lfs"]["oid"])];
                present.insert(path.to_owned(), Present { bytes: entry["size"].as_u64().unwrap_or_default(), names });
            }
            match header(&answer.headers, "link").and_then(next) {
                Some(next) => address = self.here(&next),
                None => return Ok(present),
            }
        }
        bail!("{} lists the files of {} without an end", self.name(), target.what)
    }

    /// Files that an earlier publication brought, according to its own lists.
    fn earlier(
        &self,
        target: &Target<'_>,
        commit: &str,
        present: &BTreeMap<String, Present>,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let lists = tempfile::tempdir()?;
        for name in owner.manifests.iter().filter(|name| present.contains_key(**name)) {
            fs::write(lists.path().join(name), self.text(target, commit, name)?)?;
        }
        // What is there may be of others, who call their files so, too.
        let listed = (owner.list)(lists.path()).unwrap_or_default().into_iter();
        // What is not named with its hash is no part of a publication: the record of a training.
        let files = listed.filter(|(path, content)| {
            matches!(content, Owned::Sha256(_)) || owner.manifests.iter().any(|list| path.as_path() == Path::new(list))
        });
        let paths = files.filter_map(|(path, _)| Some(path.to_str()?.replace('\\', "/")));
        Ok(paths.filter(|path| present.contains_key(path)).collect())
    }

    fn commit(
        &self,
        target: &Target<'_>,
        lines: &[Value],
        changed: &[Measured<'_>],
        removed: &[String],
    ) -> Result<String> {
        let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let address = self.interface(target, "commit");
        let answer = self.post_as(&address, "application/x-ndjson", body.as_bytes(), |request| {
            request.config().timeout_recv_response(Some(LONG_PATIENCE)).timeout_per_read(Some(LONG_PATIENCE)).build()
        })?;
        if matches!(answer.status, 409 | 412) {
            // The commit may be ours: it was made, but the answer was lost, and the request sent again.
            let head = self.head(target)?;
            let present = self.present(target, &head)?;
            let holds =
                |file: &Measured<'_>| present.get(&file.upload.path).map_or(Ok(false), |there| there.holds(file));
            let is_there = changed.iter().map(holds).collect::<Result<Vec<_>>>()?.into_iter().all(|holds| holds);
            if is_there && !removed.iter().any(|path| present.contains_key(path)) {
                return Ok(head);
            }
        }
        if !answer.is_fine() {
            return Err(self.refusal(&answer, &target.what));
        }
        let commit = answer.json["commitOid"].as_str();
        let commit = commit.with_context(|| format!("{} does not say which commit it made", self.name()))?;
        Ok(commit.to_owned())
    }
}

/// # Errors
/// If there are files of others in the way.
fn refuse_foreign(target: &Target<'_>, files: &[&str]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    bail!(
        "{} has files of others where new ones would be ({}): name another repository, or give --replace",
        target.what,
        files.join(", ")
    )
}

/// Whether a README is what the hub writes into a new repository: nothing, or front matter alone, of a Space with a link to the hub's
/// guide.
fn is_template(readme: &str) -> bool {
    let rest = match readme.strip_prefix("---\n") {
        Some(readme) => readme.split_once("\n---").map(|(_, rest)| rest),
        None => Some(readme),
    };
    let rest = rest.map(str::trim);
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with(GUIDE) && !rest.contains(char::is_control)))
}

/// Address of the next page in a Link header.
fn next(link: &str) -> Option<String> {
    let link = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readme_that_people_wrote_is_no_template() {
        let space = format!("---\ntitle: page\nsdk: static\n---\n\n{GUIDE}\n");
        for template in ["", "---\nlicense: mit\n---\n", &space] {
            assert!(is_template(template), "{template}");
        }
        for own in ["# Nuts\n", "---\nlicense: mit\n---\n# Nuts\n", "---\nlicense: mit\n", &format!("{space}# Nuts\n")]
        {
            assert!(!is_template(own), "{own}");
        }
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        let link = "<https://hub/a?cursor=1>; rel=\"first\", <https://hub/a?cursor=3>; rel=\"next\"";
        assert_eq!(next(link).as_deref(), Some("https://hub/a?cursor=3"));
        assert_eq!(next("<https://hub/a>; rel=\"prev\""), None);
    }
}
