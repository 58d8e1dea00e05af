//! Which files of a folder this program wrote. Nothing else is ever replaced or removed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::atomic::partial::PREFIX;

/// Number of foreign files that a refusal names.
const NAMED: usize = 3;

/// A kind of folder that is written as a whole: a model, a site.
pub struct Owner {
    /// Name of the kind in sentences: "a model".
    pub what: &'static str,
    /// Names of the files that list the others: written last and removed last, in this order.
    pub manifests: &'static [&'static str],
    /// Everything that such a folder holds, according to its own manifest.
    pub list: fn(&Path) -> Result<Entries>,
}

/// Paths inside a folder, and what makes each of them ours.
pub type Entries = BTreeMap<PathBuf, Content>;

/// What makes a file or folder ours, beside its path.
pub enum Content {
    /// A folder.
    Folder,
    /// A file whose SHA-256 begins with these lower-case hexadecimal digits.
    Sha256(String),
    /// A file that the function accepts.
    Accepted(fn(&[u8]) -> bool),
}

impl Owner {
    /// Checks that a folder may be replaced: it is missing, empty, or its manifest names everything in it.
    ///
    /// # Errors
    /// Naming the folder and up to three of the files in it that this program did not write or that were changed since.
    pub fn check(&self, folder: &Path) -> Result<()> {
        let found = walk(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        if found.is_empty() {
            return Ok(());
        }
        let (own, why) = match (self.list)(folder) {
            Ok(own) => (own, String::new()),
            Err(error) => (Entries::new(), format!(": {error:#}")),
        };
        let mut foreign = Vec::new();
        for path in found {
            let full = folder.join(&path);
            if !is_own(&full, own.get(&path)).with_context(|| format!("{} cannot be read", full.display()))? {
                foreign.push(path.display().to_string());
            }
        }
        if foreign.is_empty() {
            return Ok(());
        }
        let more = foreign.len().saturating_sub(NAMED);
        foreign.truncate(NAMED);
        let names = foreign.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = self.what;
        bail!(
            "{} holds other things than {what} ({names}){why}; move them away, or name another place",
            folder.display()
        )
    }

    /// Files that the folder's manifest names, and that are there.
    pub fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let own = (self.list)(folder).unwrap_or_default();
        own.into_iter()
            .filter(|(path, content)| !matches!(content, Content::Folder) && folder.join(path).is_file())
            .map(|(path, _)| path)
            .collect()
    }

    /// Removes a folder that [`Owner::check`] accepted. A file that was added since then stays, and with it its folders.
    ///
    /// # Errors
    /// If the folder cannot be read or a file in it cannot be removed.
    pub fn remove(&self, folder: &Path) -> Result<()> {
        for path in self.in_order(folder)? {
            let full = folder.join(path);
            if full.is_dir() {
                // One that is not empty stays.
                let _ = fs::remove_dir(full);
            } else {
                fs::remove_file(full)?;
            }
        }
        let _ = fs::remove_dir(folder);
        Ok(())
    }

    /// What is ours in a folder, in an order in which a later run can go on with its removal: what names the others goes last.
    fn in_order(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let own = (self.list)(folder).unwrap_or_default();
        let mut found = walk(folder)?;
        found.retain(|path| own.contains_key(path));
        // Of folders, the deepest first.
        found.reverse();
        found.sort_by_key(|path| (self.rank(path), matches!(own.get(path), Some(Content::Folder))));
        Ok(found)
    }

    /// Place of a file among the manifests, and 0 for any other.
    pub fn rank(&self, path: &Path) -> usize {
        self.manifests.iter().position(|manifest| path == Path::new(manifest)).map_or(0, |place| place + 1)
    }
}

/// Whether an entry is what the manifest says of its path.
fn is_own(path: &Path, expected: Option<&Content>) -> io::Result<bool> {
    let kind = path.symlink_metadata()?.file_type();
    Ok(match expected {
        None => false,
        Some(Content::Folder) => kind.is_dir(),
        Some(Content::Sha256(_) | Content::Accepted(_)) if !kind.is_file() => false,
        Some(Content::Sha256(beginning)) => {
            let mut hasher = Sha256::new();
            let mut file = BufReader::with_capacity(1 << 20, fs::File::open(path)?);
            while let bytes = file.fill_buf()?
                && !bytes.is_empty()
            {
                hasher.update(bytes);
                let read = bytes.len();
                file.consume(read);
            }
            let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            hash.starts_with(beginning.as_str())
        }
        Some(Content::Accepted(accepts)) => accepts(&fs::read(path)?),
    })
}

/// Everything below a folder, relative to it, in alphabetical order. Links are not followed. Empty if there is no such folder. A file
/// system's own `lost+found` and what a killed run left do not count.
pub(crate) fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fn descend(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let name = path.to_string_lossy();
            if name == "lost+found" || (name.starts_with(PREFIX) && below == Path::new("")) {
                continue;
            }
            found.push(path.clone());
            if entry.file_type()?.is_dir() {
                descend(root, &path, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if folder.is_dir() {
        descend(folder, Path::new(""), &mut found)?;
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Holds `list.txt`, which is accepted as it is, and the files whose names and hashes it lists.
    pub(crate) const LISTED: Owner = Owner { what: "a list", manifests: &["list.txt"], list };

    fn list(folder: &Path) -> Result<Entries> {
        let text = fs::read_to_string(folder.join("list.txt")).context("it has no list.txt")?;
        let mut entries = Entries::from([(PathBuf::from("list.txt"), Content::Accepted(|_| true))]);
        for line in text.lines() {
            let (name, hash) = line.split_once(' ').unwrap_or((line, ""));
            let content = if hash.is_empty() { Content::Folder } else { Content::Sha256(hash.into()) };
            entries.insert(name.into(), content);
        }
        Ok(entries)
    }

    /// Writes a folder that is wholly ours.
    pub(crate) fn write_listed(folder: &Path) {
        let hash = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab";
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("list.txt"), format!("sub\nsub/a {hash}\n")).unwrap();
        fs::write(folder.join("sub/a"), "abcdefghij".get(..8).unwrap()).unwrap();
    }

    #[test]
    fn a_folder_is_ours_only_if_everything_in_it_is() {
        let place = tempfile::tempdir().unwrap();
        let check = |folder: &Path| LISTED.check(folder).map_err(|error| format!("{error:#}"));
        let new = place.path().join("new");
        check(&new).unwrap();
        fs::create_dir(&new).unwrap();
        check(&new).unwrap();
        write_listed(&new);
        check(&new).unwrap();

        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("(thesis.tex);", |f| fs::write(f.join("thesis.tex"), "…").unwrap()),
            ("(.git);", |f| fs::create_dir(f.join(".git")).unwrap()),
            ("(sub/a);", |f| fs::write(f.join("sub/a"), "edited").unwrap()),
            ("(sub/1, sub/2, sub/3 and 1 more);", |f| {
                (1..5).for_each(|i| fs::write(f.join(format!("sub/{i}")), "").unwrap());
            }),
            ("(list.txt, sub, sub/a): it has no list.txt", |f| {
                fs::remove_file(f.join("list.txt")).unwrap();
                fs::create_dir(f.join("list.txt")).unwrap();
            }),
            ("(sub/a);", |f| {
                fs::rename(f.join("sub/a"), f.with_extension("moved")).unwrap();
                #[cfg(unix)]
                std::os::unix::fs::symlink(f.with_extension("moved"), f.join("sub/a")).unwrap();
                #[cfg(not(unix))]
                fs::create_dir(f.join("sub/a")).unwrap();
            }),
        ];
        for (i, (expected, change)) in changes.into_iter().enumerate() {
            let folder = place.path().join(i.to_string());
            write_listed(&folder);
            change(&folder);
            let error = check(&folder).unwrap_err();
            assert!(
                error.contains(&format!("{} holds other things than a list {expected}", folder.display())),
                "{error}"
            );
        }
    }

    /// Every part of a removal is taken for the whole by a later run.
    pub(crate) fn check_broken_off_removals(owner: &Owner, fresh: impl Fn(&Path)) {
        let place = tempfile::tempdir().unwrap();
        let (first, folder) = (place.path().join("first"), place.path().join("folder"));
        fresh(&first);
        let order = owner.in_order(&first).unwrap();
        assert!(!order.is_empty());
        for count in 0..=order.len() {
            fresh(&folder);
            for path in order[..count].iter().map(|path| folder.join(path)) {
                if path.is_dir() { fs::remove_dir(path).unwrap() } else { fs::remove_file(path).unwrap() }
            }
            owner.check(&folder).unwrap_or_else(|error| panic!("after {count} of {order:?}: {error:#}"));
            owner.remove(&folder).unwrap();
            assert!(!folder.exists(), "after {count} of {order:?}");
        }
    }

    #[test]
    fn a_removal_that_was_broken_off_is_finished() {
        check_broken_off_removals(&LISTED, write_listed);
    }

    #[test]
    fn what_was_added_stays_when_the_rest_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("list");
        write_listed(&folder);
        fs::write(folder.join("sub/notes"), "n").unwrap();
        LISTED.remove(&folder).unwrap();
        assert_eq!(walk(&folder).unwrap(), [Path::new("sub"), Path::new("sub/notes")]);
        fs::remove_file(folder.join("sub/notes")).unwrap();
        write_listed(&folder);
        LISTED.remove(&folder).unwrap();
        assert!(!folder.exists());
    }
}
