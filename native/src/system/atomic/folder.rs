//! Folders that appear whole or not at all, and replace only what the program wrote.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::partial::{PREFIX, PartialFolder, locked, prefix};
use super::{check_beside, check_in, parent, sync_folder};
use crate::system::ownership::{Owner, walk};

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
    remove_left(parent(&target), owner);
    if is_mount_point(&target) {
        return fill_inside(&target, owner, fill).with_context(named);
    }
    let fresh = fresh_folder(&target)?;
    fill(fresh.path())?;
    sync_folder(fresh.path());
    if !target.exists() {
        fs::rename(fresh.path(), &target).with_context(named)?;
        drop(fresh.keep());
        sync_folder(parent(&target));
        return Ok(());
    }
    // No signal removes what has this name: first the whole new folder, then the earlier one. A later run does, if all of it is
    // the owner's, and if the locks are free.
    let aside = target.with_file_name(fresh.name().replace(PREFIX, EARLIER));
    fs::rename(fresh.path(), &aside).with_context(named)?;
    let _locks = [fresh.keep(), locked(&target)];
    if let Err(error) = exchange(&aside, &target) {
        let _ = fs::remove_dir_all(&aside);
        return Err(error).with_context(named);
    }
    sync_folder(parent(&target));
    remove_earlier(&aside, &target, owner)
}

/// The first free name `NAME.kept-N` beside a folder.
fn kept(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut free = (1..).map(|i| path.with_file_name(format!("{name}.kept-{i}"))).filter(|kept| !kept.exists());
    free.next().expect("there are more numbers than folders")
}

/// [`replace_folder`] for a mount point, such as a container's volume, which cannot be renamed: the new files are written in it, and
/// move up one by one, large ones first and the manifest last. After an error the earlier files are put back; a kill in between
/// leaves files of both.
fn fill_inside(folder: &Path, owner: &Owner, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let earlier = owner.files(folder);
    let fresh = PartialFolder::new(folder)?;
    fill(fresh.path())?;
    let mut new = walk(fresh.path())?;
    let size = |path: &PathBuf| fs::metadata(fresh.path().join(path)).map_or(0, |file| file.len());
    new.sort_by_cached_key(|path| (owner.rank(path), u64::MAX - size(path)));
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) =
        new.into_iter().partition(|path| fresh.path().join(path).is_dir());
    let before = PartialFolder::new(folder)?;
    for path in &folders {
        fs::create_dir_all(before.path().join(path))?;
        fs::create_dir_all(folder.join(path))?;
    }
    let mut moved = Vec::new();
    let put = files.iter().try_for_each(|path| -> io::Result<()> {
        let place = folder.join(path);
        let was_there = place.is_file();
        if was_there {
            fs::rename(&place, before.path().join(path))?;
        }
        moved.push((path, was_there));
        fs::rename(fresh.path().join(path), &place)
    });
    if let Err(error) = put {
        for (path, was_there) in moved.into_iter().rev() {
            let place = folder.join(path);
            let _ = if was_there { fs::rename(before.path().join(path), &place) } else { fs::remove_file(&place) };
        }
        return Err(error.into());
    }
    sync_folder(folder);
    for path in earlier.iter().filter(|path| !files.contains(path)) {
        fs::remove_file(folder.join(path))
            .with_context(|| format!("the earlier {} cannot be removed", path.display()))?;
    }
    Ok(())
}

/// Whether a folder is the root of a mounted file system.
#[cfg(target_os = "linux")]
fn is_mount_point(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, folder, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_mount_point(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    matches!((device(folder), device(parent(folder))), (Ok(here), Ok(above)) if here != above)
}

#[cfg(not(unix))]
fn is_mount_point(_: &Path) -> bool {
    false
}

/// Removes earlier folders that killed runs left beside their places. One with anything that is not the owner's stays, and so does
/// one of another machine, whose locks this one may not see.
fn remove_left(folder: &Path, owner: &Owner) {
    let earlier = earlier();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_left = entry.file_name().to_string_lossy().starts_with(&earlier)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_left && locked(&path).is_some() && owner.check(&path).is_ok() {
            let _ = owner.remove(&path);
        }
    }
}

/// Removes what stood in the place of `path` and lies at `old` now.
fn remove_earlier(old: &Path, path: &Path, owner: &Owner) -> Result<()> {
    owner
        .remove(old)
        .with_context(|| format!("the earlier {} at {} cannot be removed", path.display(), old.display()))?;
    if old.exists() {
        let place = kept(path);
        fs::rename(old, &place).with_context(|| format!("{} cannot be renamed", old.display()))?;
        let old = place;
        eprintln!("dinomaly: files that came into {} meanwhile are kept in {}", path.display(), old.display());
    }
    Ok(())
}

/// Checks that [`replace_folder`] can begin, before long work whose result should go there.
///
/// # Errors
/// Naming the folder, if there is a file in its place or if its parent cannot be written to.
pub fn check_folder(path: &Path) -> Result<()> {
    check_no_file(path)?;
    if is_mount_point(path) { check_in(path) } else { check_beside(path) }
}

/// Beginning of the names of folders that are being exchanged.
const EARLIER: &str = ".dinomaly-earlier-";

/// [`EARLIER`] with this machine's part of the names.
fn earlier() -> String {
    prefix().replace(PREFIX, EARLIER)
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
fn fresh_folder(path: &Path) -> Result<PartialFolder> {
    check_no_file(path)?;
    let parent = parent(path);
    PartialFolder::new(parent).with_context(|| format!("{} cannot be written to", parent.display()))
}

/// Exchanges two folders.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(fresh: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, fresh, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems (NFS, FAT) cannot.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => {
            exchange_slowly(fresh, path)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn exchange(fresh: &Path, path: &Path) -> io::Result<()> {
    exchange_slowly(fresh, path)
}

/// [`exchange`] in three renames; the first is taken back if the second fails.
fn exchange_slowly(fresh: &Path, path: &Path) -> io::Result<()> {
    let old = kept(path);
    fs::rename(path, &old)?;
    if let Err(e) = fs::rename(fresh, path) {
        fs::rename(&old, path)?;
        return Err(e);
    }
    fs::rename(&old, fresh)
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;
    use crate::system::ownership::Content;

    /// Folders of these files, whatever they hold.
    const OWNER: Owner = Owner {
        what: "a model",
        manifests: &["first"],
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
                let fresh = kept(&path);
                fs::create_dir(&fresh).unwrap();
                write_new(&fresh, "second", b"2").unwrap();
                exchange_slowly(&fresh, &path).unwrap();
                remove_earlier(&fresh, &path, &OWNER).unwrap();
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
    fn an_earlier_folder_that_a_kill_left_is_removed_if_all_of_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let left = |name: &str| folder.path().join(format!("{}{name}", earlier()));
        for (name, file) in [("ours", "first"), ("foreign", "notes.txt"), ("living", "first")] {
            fs::create_dir(left(name)).unwrap();
            write_new(&left(name), file, b"1").unwrap();
        }
        let lock = locked(&left("living"));
        assert!(lock.is_some());
        replace_folder(&folder.path().join("model"), &OWNER, |new| write_new(new, "first", b"2")).unwrap();
        assert!(!left("ours").exists() && left("foreign").exists() && left("living").exists());
        let elsewhere = folder.path().join(format!("{EARLIER}000000-ours"));
        fs::create_dir(&elsewhere).unwrap();
        write_new(&elsewhere, "first", b"1").unwrap();
        drop(lock);
        remove_left(folder.path(), &OWNER);
        assert!(!left("living").exists() && elsewhere.exists());
    }

    #[test]
    fn a_mount_point_is_filled_inside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::create_dir(&path).unwrap();
        fill_inside(&path, &OWNER, |new| {
            write_new(new, "first", b"1")?;
            write_new(new, "second", b"1")
        })
        .unwrap();
        assert_eq!(names(&path), ["first", "second"]);
        fill_inside(&path, &OWNER, |new| write_new(new, "first", b"2")).unwrap();
        assert_eq!(names(&path), ["first"]);
        assert_eq!(fs::read(path.join("first")).unwrap(), b"2");
        assert!(fill_inside(&path, &OWNER, |_| bail!("no")).is_err());
        assert_eq!(names(&path), ["first"]);
        // The second file cannot move up: a folder that is not ours came into its place.
        let blocked = fill_inside(&path, &OWNER, |new| {
            fs::create_dir(path.join("second"))?;
            fs::write(path.join("second/mine"), b"m")?;
            write_new(new, "first", b"3")?;
            write_new(new, "good", b"33")?;
            write_new(new, "second", b"333")
        });
        assert!(blocked.is_err());
        assert_eq!(fs::read(path.join("first")).unwrap(), b"2");
        assert_eq!(names(&path), ["first", "second"]);
        assert!(!is_mount_point(&path));
        #[cfg(target_os = "linux")]
        assert!(is_mount_point(Path::new("/proc")));
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
