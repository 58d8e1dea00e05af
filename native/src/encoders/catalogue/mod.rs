//! The catalogue: published encoders by name, and their sources.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::encoders::backbone::{self, Backbone, Origin, Told};
use crate::hub::{self, Hub, Wanted};
use crate::system::atomic;

/// The branch of the encoders' repositories that is fetched.
const BRANCH: &str = "main";

/// A published encoder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct KnownBackbone {
    /// Name in this program.
    pub name: String,
    /// Method and size, in words.
    pub what: String,
    /// Paper that describes it.
    pub paper: String,
    /// Licence of its weights.
    pub licence: String,
    /// Parameters, in millions.
    pub millions: usize,
    /// Channels of a token.
    pub width: usize,
    /// Attention heads: usually, but not always, width / 64.
    pub heads: usize,
    /// Blocks.
    pub blocks: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Repository on the hub; empty if it is published elsewhere.
    pub repo: String,
    /// File in the repository, or on the page.
    pub file: String,
    /// Whether the hub requires accepting its licence first.
    pub gated: bool,
    /// Page of the project that publishes it, if there is no repository.
    pub page: String,
}

/// Every backbone in the table.
///
/// # Panics
/// If the built-in table is malformed, which a test excludes.
pub fn all() -> &'static [KnownBackbone] {
    static ALL: LazyLock<Vec<KnownBackbone>> = LazyLock::new(|| {
        let mut reader = csv::Reader::from_reader(include_str!("table.csv").as_bytes());
        reader.deserialize().collect::<Result<_, _>>().expect("the built-in table of backbones is well-formed")
    });
    &ALL
}

/// Finds a backbone by name.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> Result<&'static KnownBackbone> {
    let found = all().iter().find(|known| known.name == name);
    found.with_context(|| format!("there is no backbone {name}: `dinomaly backbone list` shows all names"))
}

/// Reads an encoder from a file, or by the name of a downloaded backbone.
///
/// # Errors
/// As [`backbone::read`], and if that backbone is not downloaded.
pub fn read(given: &Path, told: impl Into<Told>) -> Result<(Backbone, PathBuf)> {
    let told = told.into();
    let named = given.to_str().filter(|_| !given.exists()).and_then(|name| find(name).ok());
    let Some(known) = named else {
        return Ok((backbone::read(given, told)?, given.to_owned()));
    };
    let path = if known.repo.is_empty() { None } else { Hub::from_env().cached(&known.repo, BRANCH, &known.file) };
    let Some(path) = path else {
        known.refuse_page()?;
        bail!("{0} has not been fetched: run `dinomaly backbone fetch {0}` first", known.name);
    };
    Ok((known.open_as(&path, told.origin.unwrap_or(Origin::Original))?, path))
}

/// Downloads a backbone from the hub, unless it is in the hub's cache, and copies it to `out`. Returns the path of its file.
///
/// # Errors
/// If the name is unknown, the hub refuses, or the file cannot be written.
pub fn fetch(name: &str, out: Option<&Path>) -> Result<(&'static KnownBackbone, PathBuf)> {
    let backbone = find(name)?;
    if let Some(out) = out {
        atomic::check_file(out)?;
    }
    let path = backbone.fetch(&Hub::from_env())?;
    let Some(out) = out else { return Ok((backbone, path)) };
    let read = || format!("{} cannot be read", path.display());
    atomic::copy_file(&mut File::open(&path).with_context(read)?, out)?;
    Ok((backbone, out.to_owned()))
}

impl KnownBackbone {
    /// Reads a file and checks that it holds this encoder. Its position table is resampled as by the project that published the
    /// encoder, also if another library wrote the file: those are the models that papers report.
    ///
    /// # Errors
    /// As [`backbone::read`], or if it is another encoder.
    pub fn open(&self, path: &Path) -> Result<Backbone> {
        self.open_as(path, Origin::Original)
    }

    fn open_as(&self, path: &Path, origin: Origin) -> Result<Backbone> {
        let mut backbone = backbone::read(path, Told { heads: Some(self.heads), origin: Some(origin) })?;
        let config = &mut backbone.config;
        let found = (config.hidden_size, config.num_hidden_layers, config.patch_size);
        let expected = (self.width, self.blocks, self.patch);
        if found != expected {
            let say = |(width, blocks, patch)| format!("width {width}, {blocks} blocks, patches of {patch}");
            bail!("{} is not {}: expected {}, found {}", path.display(), self.name, say(expected), say(found));
        }
        config.name = self.name.clone();
        Ok(backbone)
    }

    /// Downloads it, unless it is in the cache, and checks the encoder in it. A wrong file is removed.
    fn fetch(&self, hub: &Hub) -> Result<PathBuf> {
        self.refuse_page()?;
        let Self { name, repo, file, licence, .. } = self;
        let path = hub.fetch(&Wanted { repo, revision: BRANCH, file, name, licence: Some(licence) })?;
        // Removed, so that the next attempt does not find it.
        let open = self.open(&path).inspect_err(|_| hub::forget(&path));
        open.with_context(|| format!("the hub's file for {name} was removed"))?;
        Ok(path)
    }

    /// Checks that the backbone is on the hub.
    ///
    /// # Errors
    /// If it is not; the error says where it is.
    pub fn refuse_page(&self) -> Result<()> {
        if self.repo.is_empty() {
            let heads =
                if self.heads * 64 == self.width { String::new() } else { format!(" and --heads {}", self.heads) };
            bail!(
                "{} is not on the hub: download {} from {} and give the file to --backbone{heads}",
                self.name,
                self.file,
                self.page
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dinomaly_core::model::config::{EncoderConfig, ModelConfig};

    use super::*;

    impl KnownBackbone {
        /// Its shape as far as the table says it, with the usual MLP and positions.
        pub(crate) fn shape(&self) -> EncoderConfig {
            EncoderConfig {
                name: self.name.clone(),
                num_hidden_layers: self.blocks,
                ..EncoderConfig::vit(self.width, self.heads, self.patch, 14)
            }
        }
    }

    #[test]
    fn every_row_says_where_its_file_is() {
        let mut names: Vec<&str> = all().iter().map(|known| known.name.as_str()).collect();
        for known in all() {
            assert!(known.repo.is_empty() != known.page.is_empty(), "{known:?}");
            assert!(!known.file.is_empty() && known.width % known.heads == 0, "{known:?}");
            assert!(ModelConfig::published(known.shape()).is_ok(), "{known:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(find("dinov2-reg-base").is_ok());
        assert!(find("dinov9").unwrap_err().to_string().contains("there is no backbone dinov9"));
    }
}
