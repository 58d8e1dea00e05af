//! Which photos belong to which shard and part. A part is named by what it holds: every process that computes it writes the same file.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::photos::Photo;
use super::store::{Stamp, Version};

/// A share of the photos: `index` of `count`, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which share.
    pub index: u64,
    /// Number of shares.
    pub count: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((_, count)) if count > 0 => {
                Err(format!("shards are counted from 0: of {count} the last is {}/{count}", count - 1))
            }
            _ => Err("expected a share and their number, such as 0/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Whether a photo belongs to the shard. Its path alone decides, so that photos that come later move no other.
    pub fn takes(self, path: &str) -> bool {
        let digest = Sha256::digest(path.as_bytes());
        let number = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        number % self.count == self.index
    }
}

/// Photos whose rows are one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the file.
    pub name: String,
    /// The photos, in alphabetical order.
    pub photos: Vec<Photo>,
}

/// Divides a shard's photos. `work` says all else that decides what the rows are: the model and the options.
pub fn divide(photos: &[Photo], shard: Shard, size: usize, work: &str) -> Vec<Part> {
    let part = |(number, photos): (usize, &[Photo])| {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(work);
        for Photo { path, file } in photos {
            add(path);
            add(&match file {
                Ok(Stamp { size, version: Version::Tag(tag) }) => format!("{size} bytes tagged {tag}"),
                Ok(Stamp { size, version: Version::Changed(time) }) => format!("{size} bytes changed {time}"),
                Err(_) => "missing".into(),
            });
        }
        let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Part { name: format!("{}{number:05}-{hash}.parquet", prefix(shard)), photos: photos.to_vec() }
    };
    photos.chunks(size).enumerate().map(part).collect()
}

fn prefix(Shard { index, count }: Shard) -> String {
    format!("part-{index}-of-{count}-")
}

/// Results among `names` whose rows stand beside those of `parts`: of other photos or another model, or of another number of shards. Those
/// of other shards are not known here.
pub fn others(names: &BTreeSet<String>, parts: &[Part], shard: Shard) -> Vec<String> {
    let own: BTreeSet<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    let is_other = |name: &&String| {
        let of_count = name.split("-of-").nth(1).is_some_and(|rest| rest.starts_with(&format!("{}-", shard.count)));
        let is_result = name.starts_with("part-") && name.ends_with(".parquet");
        is_result && !own.contains(name.as_str()) && (!of_count || name.starts_with(&prefix(shard)))
    };
    names.iter().filter(is_other).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photos(names: &[&str]) -> Vec<Photo> {
        let stamp = Stamp { size: 7, version: Version::Tag("v".into()) };
        names.iter().map(|name| Photo { path: (*name).into(), file: Ok(stamp.clone()) }).collect()
    }

    const ONE: Shard = Shard { index: 0, count: 1 };

    #[test]
    fn a_shard_is_a_share_of_a_number() {
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        assert_eq!("4/4".parse::<Shard>().unwrap_err(), "shards are counted from 0: of 4 the last is 3/4");
        for wrong in ["", "1", "0/0", "a/b", "-1/4", "1/4/2"] {
            assert!(wrong.parse::<Shard>().unwrap_err().contains("such as 0/4"), "{wrong}");
        }
    }

    #[test]
    fn each_photo_is_in_one_shard_and_stays_there() {
        let names: Vec<String> = (0..4000).map(|i| format!("line/{i}.png")).collect();
        let counts =
            [0, 1, 2, 3].map(|index| names.iter().filter(|name| Shard { index, count: 4 }.takes(name)).count());
        assert_eq!(counts.iter().sum::<usize>(), 4000);
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        // As Python's hashlib has it: other versions of the program have to meet the same shards.
        for (name, index) in names.iter().zip([3, 2, 2, 1, 1, 3, 0, 3]) {
            assert!(Shard { index, count: 4 }.takes(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_of_the_content() {
        let parts = divide(&photos(&["a", "b", "c"]), ONE, 2, "model");
        assert_eq!(parts.iter().map(|part| part.photos.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(parts[0].name.starts_with("part-0-of-1-00000-") && parts[1].name.starts_with("part-0-of-1-00001-"));
        assert_eq!(divide(&photos(&["a", "b", "c"]), ONE, 2, "model"), parts);
        let name = |photos: &[Photo], work: &str| divide(photos, ONE, 2, work)[0].name.clone();
        let mut all =
            vec![parts[0].name.clone(), name(&photos(&["a", "b"]), "other model"), name(&photos(&["ab", ""]), "model")];
        for change in [
            |file: &mut Result<Stamp, String>| file.as_mut().unwrap().size = 8,
            |file: &mut Result<Stamp, String>| file.as_mut().unwrap().version = Version::Tag("w".into()),
            |file: &mut Result<Stamp, String>| file.as_mut().unwrap().version = Version::Changed(0),
            |file: &mut Result<Stamp, String>| *file = Err("gone".into()),
        ] {
            let mut changed = photos(&["a", "b"]);
            change(&mut changed[1].file);
            all.push(name(&changed, "model"));
        }
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 7, "{all:?}");
    }

    #[test]
    fn results_of_other_work_are_found() {
        let shard = Shard { index: 1, count: 4 };
        let parts = divide(&photos(&["a"]), shard, 2, "model");
        let names = [
            &parts[0].name,
            "part-1-of-4-00000-0123456789abcdef.parquet",
            "part-2-of-4-00000-ff.parquet",
            "part-0-of-40-00000-ff.parquet",
            "notes.txt",
        ];
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            others(&names, &parts, shard),
            ["part-0-of-40-00000-ff.parquet", "part-1-of-4-00000-0123456789abcdef.parquet"]
        );
    }
}
