//! Checkpoints from before PyTorch 1.6 (`_legacy_save`): five pickles one after the other (a number, the version, what machine wrote
//! them, the checkpoint, the names of its storages), then each storage as its number of values and the values.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::pickle::{Pickle, Value};
use super::{CANNOT, MOST};

/// An open file.
pub(super) struct Legacy {
    file: File,
    /// First byte and number of bytes of each storage.
    storages: BTreeMap<String, (u64, u64)>,
}

impl Legacy {
    /// Opens a file and returns the pickle of its checkpoint.
    ///
    /// # Errors
    /// If it is damaged, or of a big-endian machine.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<u8>)> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        (&mut file).take(MOST).read_to_end(&mut bytes)?;
        let mut at = 0;
        for _number_and_version in 0..2 {
            at += Pickle::parse(&bytes[at..]).context(CANNOT)?.1;
        }
        let (machine, length) = Pickle::parse(&bytes[at..]).context(CANNOT)?;
        if machine.entry(machine.root, "little_endian") != Some(Value::Bool(true)) {
            bail!("it was saved on a big-endian machine, which is not supported");
        }
        at += length;
        let (checkpoint, length) = Pickle::parse(&bytes[at..]).context(CANNOT)?;
        let whole = at..at + length;
        let (names, length) = Pickle::parse(&bytes[whole.end..]).context(CANNOT)?;
        let mut place = (whole.end + length) as u64;
        let classes: BTreeMap<&str, &str> = checkpoint.storages().collect();
        let mut storages = BTreeMap::new();
        for &name in names.sequence(names.root).context("it has no list of storages")? {
            let Value::Text(name) = name else { bail!("it has a storage without name") };
            let class = *classes.get(name).with_context(|| format!("storage {name} is of no tensor"))?;
            let width = width(class).with_context(|| format!("storage {name} is a {class}, which is not known"))?;
            let mut count = [0; 8];
            file.seek(SeekFrom::Start(place))?;
            file.read_exact(&mut count).context("it is truncated: download it again")?;
            let length = u64::from_le_bytes(count).checked_mul(width);
            let end = length.and_then(|length| (place + 8).checked_add(length)).filter(|&end| end <= size);
            let end = end.context("it is truncated: download it again")?;
            storages.insert(name.to_owned(), (place + 8, end - place - 8));
            place = end;
        }
        Ok((Self { file, storages }, bytes[whole].to_vec()))
    }

    /// Bytes of a storage.
    ///
    /// # Errors
    /// If it is missing or cannot be read.
    pub(super) fn storage(&mut self, name: &str) -> Result<Vec<u8>> {
        let &(start, length) = self.storages.get(name).with_context(|| format!("storage {name} is missing"))?;
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes of a value in a class of storage.
fn width(class: &str) -> Option<u64> {
    Some(match class {
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => 8,
        "FloatStorage" | "IntStorage" | "QInt32Storage" => 4,
        "HalfStorage" | "BFloat16Storage" | "ShortStorage" => 2,
        "ByteStorage" | "CharStorage" | "BoolStorage" | "QInt8Storage" | "QUInt8Storage" | "UntypedStorage" => 1,
        "ComplexDoubleStorage" => 16,
        _ => return None,
    })
}
