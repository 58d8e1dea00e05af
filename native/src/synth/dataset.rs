//! Writes generated photos as a data set in the MVTec-AD layout.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::Class;
use crate::system::atomic;
use crate::system::ownership::{Entries, Owner};

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerationPlan {
    /// Classes to generate.
    pub classes: Vec<Class>,
    /// Side of the photos in pixels.
    pub size: usize,
    /// Seed of all photos.
    pub seed: u64,
    /// Good training photos per class.
    pub train: usize,
    /// Good test photos per class.
    pub good: usize,
    /// Test photos per kind of defect.
    pub defective: usize,
}

/// One photo of the plan.
struct Item {
    class: Class,
    split: &'static str,
    kind: Option<&'static str>,
    index: usize,
}

impl GenerationPlan {
    /// Number of photos, masks not counted.
    pub fn photos(&self) -> usize {
        self.classes.iter().map(|c| self.train + self.good + self.defective * c.defects().len()).sum()
    }

    fn items(&self) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.photos());
        for &class in &self.classes {
            let mut add = |count, split, kind| items.extend((0..count).map(|index| Item { class, split, kind, index }));
            add(self.train, "train", None);
            add(self.good, "test", None);
            for &kind in class.defects() {
                add(self.defective, "test", Some(kind));
            }
        }
        items
    }

    /// Writes `out/CLASS/train/good`, `test/good`, `test/DEFECT` and `ground_truth/DEFECT`, on all cores. `each` is called
    /// after every photo; its error ends the work. An unfinished data set is removed.
    ///
    /// # Errors
    /// If `out` exists and is not an empty folder, or a file cannot be written.
    pub fn write(&self, out: &Path, each: impl Fn() -> Result<()> + Sync) -> Result<()> {
        let taken = fs::read_dir(out).map(|mut entries| entries.next().is_some()).unwrap_or_else(|_| out.exists());
        if taken {
            bail!("{} exists already: choose a new folder, or remove it", out.display());
        }
        atomic::replace_folder(out, &EMPTY, |root| {
            self.items().par_iter().try_for_each(|item| -> Result<()> {
                item.write(root, self.seed, self.size)?;
                each()
            })
        })
    }
}

/// Only an empty folder is replaced.
const EMPTY: Owner = Owner { what: "an empty folder", manifests: &[], list: |_| Ok(Entries::new()) };

impl Item {
    fn write(&self, root: &Path, seed: u64, size: usize) -> Result<()> {
        let folder = root.join(self.class.name());
        let name = |ending: &str| format!("{:03}{ending}", self.index);
        let Some(kind) = self.kind else {
            let photo = self.class.good(seed, self.split, self.index as u64, size);
            return save(&photo.into(), folder.join(self.split).join("good"), &name(".png"));
        };
        let made = self.class.defective(seed, kind, self.index as u64, size);
        save(&made.photo.into(), folder.join(self.split).join(kind), &name(".png"))?;
        save(&made.mask.into(), folder.join("ground_truth").join(kind), &name("_mask.png"))
    }
}

fn save(image: &image::DynamicImage, folder: PathBuf, name: &str) -> Result<()> {
    let path = folder.join(name);
    fs::create_dir_all(&folder)
        .map_err(image::ImageError::from)
        .and_then(|()| image.save(&path))
        .with_context(|| format!("photo {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Dataset;

    fn plan() -> GenerationPlan {
        GenerationPlan { classes: Class::ALL.to_vec(), size: 48, seed: 3, train: 2, good: 1, defective: 1 }
    }

    #[test]
    fn the_trainer_finds_every_photo_and_mask() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new/set");
        plan().write(&out, || Ok(())).unwrap();
        let found = Dataset::open(&out, &[]).unwrap();
        assert_eq!(found.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), Class::ALL.map(Class::name));
        for (class, expected) in found.classes.iter().zip(Class::ALL) {
            assert_eq!((class.train.len(), class.test.len()), (2, 1 + expected.defects().len()));
            let photo = image::open(&class.train[0]).unwrap().into_rgb8();
            assert_eq!(photo, expected.good(3, "train", 0, 48));
            for test in &class.test {
                let Some(kind) = &test.defect else { continue };
                assert!(expected.defects().contains(&kind.as_str()));
                let mask = image::open(&test.masks[0]).unwrap().into_luma8();
                assert!(mask.pixels().any(|p| p[0] == 255), "{}", test.path.display());
            }
        }
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 1, "temporary files stay");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("set");
        let stopped = plan().write(&out, || bail!("stopped")).unwrap_err();
        assert_eq!(stopped.to_string(), "stopped");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(&out).unwrap();
        plan().write(&out, || Ok(())).unwrap();
        let refused = plan().write(&out, || Ok(())).unwrap_err();
        assert!(refused.to_string().contains("exists already"), "{refused}");
    }
}
