//! A published model on the hub → a folder of the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dinomaly_core::bundle::{FileEntry, Kind, MANIFEST, Manifest};

use super::address::is_commit;
use super::download::Fetched;
use super::{Address, Failure, Hub, Wanted, forget};

impl Hub {
    /// Fetches a model's files, all of one commit, unless they are in the cache, and gives back the folder with them. Only what the
    /// model's manifest names is fetched. Without a network the newest model in the cache is taken, which is said.
    ///
    /// # Errors
    /// If there is no model, the hub refuses, or a file has another checksum than the manifest says.
    pub fn model(&self, place: &Address) -> Result<PathBuf> {
        let (name, revision) = (place.to_string(), place.revision());
        let known = self.cache.commit_of(&place.repo, revision);
        let cached = known.filter(|commit| self.missing(place, commit).is_ok_and(|missing| missing.is_empty()));
        if cached.is_none() {
            self.refuse_offline(&name)?;
        }
        if let Some(commit) = cached.as_ref().filter(|_| self.offline || is_commit(revision)) {
            return Ok(self.folder(place, commit));
        }
        let file = place.file(MANIFEST);
        let wanted = Wanted { repo: &place.repo, revision, file: &file, name: &name, licence: None };
        let found = match &cached {
            None => self.download(&wanted),
            Some(commit) => match self.attempt(&wanted) {
                Ok(found) => Ok(found),
                Err(Failure::Final(error)) => Err(error),
                Err(Failure::Again(error)) => {
                    eprintln!(
                        "dinomaly: {} does not answer ({error:#}): {name} is taken from the cache, as it was in commit {}",
                        self.name(),
                        commit.get(..8).unwrap_or(commit)
                    );
                    return Ok(self.folder(place, commit));
                }
            },
        };
        let Fetched { commit, .. } = found.with_context(|| format!("{name} cannot be used as a model"))?;
        let fetch = |entry: &FileEntry| -> Result<()> {
            let file = place.file(&entry.name);
            let path = self.download(&Wanted { revision: &commit, file: &file, ..wanted })?.path;
            let bytes = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            entry.verify(&bytes).inspect_err(|_| forget(&path))?;
            Ok(())
        };
        let missing = self.missing(place, &commit)?;
        missing.iter().try_for_each(fetch).with_context(|| format!("{name} was not fetched"))?;
        let point = self.cache.point(&place.repo, revision, &commit);
        point.with_context(|| format!("the cache of {} cannot be written", place.repo))?;
        Ok(self.folder(place, &commit))
    }

    fn folder(&self, place: &Address, commit: &str) -> PathBuf {
        self.cache.snapshot(&place.repo, commit).join(&place.folder)
    }

    /// Files of the manifest that the cache has not, or not whole.
    fn missing(&self, place: &Address, commit: &str) -> Result<Vec<FileEntry>> {
        let folder = self.folder(place, commit);
        let bytes = fs::read(folder.join(MANIFEST)).with_context(|| format!("{place} is not in the cache"))?;
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(error) => bail!("{place} holds no model that can be used: {error}"),
        };
        Ok(manifest.files.into_iter().filter(|entry| !is_whole(&folder, entry)).collect())
    }
}

/// Whether a file is there with the right length. A card may have been edited on the hub.
fn is_whole(folder: &Path, entry: &FileEntry) -> bool {
    let found = fs::metadata(folder.join(&entry.name));
    found.is_ok_and(|found| found.is_file() && (entry.kind == Kind::Card || found.len() == entry.bytes))
}
