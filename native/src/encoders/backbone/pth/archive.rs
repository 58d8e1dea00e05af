//! The zip archive of a checkpoint: `FOLDER/data.pkl`, and each storage as `FOLDER/data/NAME`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use zip::{CompressionMethod, ZipArchive};

use super::MOST;

/// An open archive.
pub(super) struct Archive {
    archive: ZipArchive<BufReader<File>>,
    /// Folder inside the archive.
    folder: String,
    /// Size of the file: no storage can be larger, because PyTorch never compresses.
    most: u64,
}

impl Archive {
    /// Opens an archive and returns its pickle.
    ///
    /// # Errors
    /// If it is damaged, or no checkpoint of a little-endian machine.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<u8>)> {
        let file = File::open(path)?;
        let most = file.metadata()?.len();
        let archive = ZipArchive::new(BufReader::new(file))
            .context("it is not a complete zip archive (truncated?): download it again")?;
        let names = archive.file_names().collect::<zip::result::ZipResult<Vec<_>>>()?;
        let folder = names.iter().find_map(|name| name.strip_suffix("/data.pkl"));
        let folder = folder.context("the zip archive has no data.pkl: it is not a PyTorch checkpoint")?.to_owned();
        drop(names);
        let order = format!("{folder}/byteorder");
        let mut opened = Self { archive, folder, most };
        if opened.archive.index_for_name(&order).is_some() && opened.read(&order, MOST)? != b"little" {
            bail!("it was saved on a big-endian machine, which is not supported");
        }
        let bytes = opened.read(&format!("{}/data.pkl", opened.folder), MOST)?;
        Ok((opened, bytes))
    }

    /// Bytes of a storage.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub(super) fn storage(&mut self, name: &str) -> Result<Vec<u8>> {
        self.read(&format!("{}/data/{name}", self.folder), self.most)
    }

    /// A part of the archive, of at most so many bytes.
    fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let cannot = || format!("its part {name} cannot be read: truncated or damaged");
        let index = self.archive.index_for_name(name).with_context(cannot)?;
        // PyTorch writes no checksums after `torch.serialization.set_crc32_options(False)`.
        let part = self.archive.by_index_raw(index).with_context(cannot)?;
        let is_unchecked = part.crc32() == 0 && part.compression() == CompressionMethod::Stored;
        let size = part.size();
        drop(part);
        if size > most {
            bail!("its part {name} has {size} bytes, more than the {most} that it can need");
        }
        let part = match is_unchecked {
            true => self.archive.by_index_raw(index),
            false => self.archive.by_index(index),
        };
        let mut bytes = Vec::new();
        part.with_context(cannot)?.take(most).read_to_end(&mut bytes).with_context(cannot)?;
        Ok(bytes)
    }
}
