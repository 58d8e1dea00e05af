//! Folders that appear whole or not at all, and replace only what the program wrote.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{check_beside, parent, sync_folder};
use crate::system::ownership::Owner;

/// Fills a fresh folder and puts it in the place of `path`. An earlier folder of the same owner is replaced; it stays until
/// the new one stands. On Linux and macOS the two are exchanged in one step, so that at every moment one whole folder
/// stands there; elsewhere there is an instant without any. Where `path` is a link, the folder that it names is replaced.
///
/// # Errors
/// If the folder holds anything that `owner` did not write, what `fill` refuses, or naming the folder if it cannot be put in
/// place; the old one is unchanged then.
pub fn replace_folder(path: &Path, owner: &Owner, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let named = || format!("{} cannot be put in place", path.display());
    let target = if path.is_symlink() { path.canonicalize().with_context(named)? } else { path.to_owned() };
    owner.check(&target)?;
    let fresh = fresh_folder(&target)?;
    fill(fresh.path())?;
    sync_folder(fresh.path());
    if target.exists() {
        let old = exchange(fresh, &target).with_context(named)?;
        sync_folder(parent(&target));
        return remove_earlier(&old, &target, owner);
    }
    fs::rename(fresh.path(), &target).with_context(named)?;
    // Its place is another one now: there is nothing to remove.
    let _ = fresh.keep();
    sync_folder(parent(&target));
    Ok(())
}

/// Removes what stood in the place of `path` and lies at `old` now.
fn remove_earlier(old: &Path, path: &Path, owner: &Owner) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    owner.remove(old).with_context(|| format!("the earlier {} at {} cannot be removed", name, old.display()))?;
    if !old.exists() {
        return Ok(());
    }
    let free = (1..).map(|i| path.with_file_name(format!("{name}.kept-{i}"))).find(|kept| !kept.exists());
    let kept = free.context("there are as many folders as numbers")?;
    fs::rename(old, &kept).with_context(|| format!("{} cannot be renamed", old.display()))?;
    eprintln!("dinomaly: files that came into {} meanwhile are kept in {}", path.display(), kept.display());
    Ok(())
}

/// Checks that [`replace_folder`] can begin, before long work whose result should go there.
///
/// # Errors
/// Naming the folder, if there is a file in its place or if its parent cannot be written to.
pub fn check_folder(path: &Path) -> Result<()> {
    check_no_file(path)?;
    check_beside(path)
}

/// Writes and flushes a file of a folder that is not in place yet.
///
/// # Errors
/// Naming the file, e.g. if the disk is full.
pub fn write_new(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = File::create_new(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("{name} cannot be written"))
}

fn check_no_file(path: &Path) -> Result<()> {
    if path.is_file() {
        bail!("{} is a file, not a folder: name another place", path.display());
    }
    Ok(())
}

/// An empty folder beside `path`, removed when it is dropped.
fn fresh_folder(path: &Path) -> Result<TempDir> {
    check_no_file(path)?;
    let parent = parent(path);
    let create = || -> io::Result<TempDir> {
        fs::create_dir_all(parent)?;
        let mut builder = tempfile::Builder::new();
        // As for any other new folder: the default of a temporary one keeps web servers out.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        builder.prefix(".partial-").tempdir_in(parent)
    };
    create().with_context(|| format!("{} cannot be written to", parent.display()))
}

/// Puts `fresh` in the place of the folder `path`. Returns where the earlier folder lies now.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(fresh: TempDir, path: &Path) -> io::Result<PathBuf> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, fresh.path(), CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(fresh.keep()),
        // Some file systems (NFS, FAT) cannot.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => {
            exchange_slowly(fresh, path)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn exchange(fresh: TempDir, path: &Path) -> io::Result<PathBuf> {
    exchange_slowly(fresh, path)
}

/// [`exchange`] in two renames; the first is taken back if the second fails.
fn exchange_slowly(fresh: TempDir, path: &Path) -> io::Result<PathBuf> {
    let old = fresh.path().with_extension("old");
    fs::rename(path, &old)?;
    if let Err(e) = fs::rename(fresh.path(), path) {
        fs::rename(&old, path)?;
        return Err(e);
    }
    // Its place is another one now: there is nothing to remove.
    let _ = fresh.keep();
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use crate::system::ownership::Content;

    /// Folders of these files, whatever they hold.
    const OWNER: Owner = Owner {
        what: "a model",
        list: |_| Ok(["first", "second", "good"].map(|name| (name.into(), Content::Accepted(|_| true))).into()),
    };

    #[test]
    fn a_folder_is_replaced_as_a_whole_and_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        for (exchange_by, target) in [(true, "a"), (false, "b")] {
            let path = folder.path().join(target);
            replace_folder(&path, &OWNER, |new| write_new(new, "first", b"1")).unwrap();
            if exchange_by {
                replace_folder(&path, &OWNER, |new| write_new(new, "second", b"2")).unwrap();
            } else {
                let fresh = fresh_folder(&path).unwrap();
                write_new(fresh.path(), "second", b"2").unwrap();
                let old = exchange_slowly(fresh, &path).unwrap();
                remove_earlier(&old, &path, &OWNER).unwrap();
            }
            assert_eq!(names(&path), ["second"]);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let ordinary = folder.path().join("ordinary");
                fs::create_dir_all(&ordinary).unwrap();
                let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
                assert_eq!(mode(&path), mode(&ordinary));
                fs::remove_dir(&ordinary).unwrap();
            }
        }
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn a_failure_leaves_the_old_folder_and_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let fail = |new: &Path| {
            write_new(new, "half", b"x")?;
            write_new(new, "no/such/folder", b"x")
        };
        assert!(replace_folder(&path, &OWNER, fail).is_err());
        assert!(names(folder.path()).is_empty());
        replace_folder(&path, &OWNER, |new| write_new(new, "good", b"1")).unwrap();
        assert!(replace_folder(&path, &OWNER, fail).is_err());
        assert_eq!(names(folder.path()), ["model"]);
        assert_eq!(names(&path), ["good"]);
    }

    #[test]
    fn what_is_not_ours_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fs::create_dir(&path).unwrap();
        write_new(&path, "thesis.tex", b"x").unwrap();
        let error = replace_folder(&path, &OWNER, |_| panic!("refused before any work")).unwrap_err();
        assert!(format!("{error:#}").contains("(thesis.tex)"), "{error:#}");
        fs::rename(path.join("thesis.tex"), path.join("good")).unwrap();
        // While the new folder is filled.
        let late = |new: &Path| {
            write_new(&path, "notes.txt", b"n")?;
            write_new(new, "good", b"2")
        };
        replace_folder(&path, &OWNER, late).unwrap();
        assert_eq!(names(folder.path()), ["model", "model.kept-1"]);
        assert_eq!(names(&folder.path().join("model.kept-1")), ["notes.txt"]);
        assert_eq!(fs::read(path.join("good")).unwrap(), b"2");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_folder_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [model, link] = ["model", "link"].map(|name| folder.path().join(name));
        replace_folder(&model, &OWNER, |new| write_new(new, "first", b"1")).unwrap();
        std::os::unix::fs::symlink("model", &link).unwrap();
        replace_folder(&link, &OWNER, |new| write_new(new, "second", b"2")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(names(&model), ["second"]);
        assert_eq!(names(folder.path()), ["link", "model"]);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = format!("{:#}", check_folder(&file).unwrap_err());
        assert!(error.contains("file is a file"), "{error}");
        let error = format!("{:#}", check_folder(&file.join("model")).unwrap_err());
        assert!(error.contains("file cannot be written to: "), "{error}");
        check_folder(&folder.path().join("new/model")).unwrap();
        assert_eq!(names(folder.path()), ["file"], "nothing is made yet");
    }
}
