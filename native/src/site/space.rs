//! A site → a static Space on the hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::own::OWNER;
use crate::hub::{Address, Committed, Content, Hub, Publication, RepoKind, Upload};
use crate::system::ownership::Content as Owned;

/// File with a Space's front matter, which the site itself has not.
const CARD: &str = "README.md";

/// The site to publish, and where.
#[derive(Clone, Debug)]
pub struct SpacePlan {
    /// Folder that `site` wrote.
    pub site: PathBuf,
    /// Space, and branch.
    pub place: Address,
    /// Whether only its owner sees the Space, if it is made.
    pub private: bool,
    /// Whether files of others there may be replaced.
    pub replace: bool,
    /// Title of the commit; if omitted, "Publish the page".
    pub message: Option<String>,
}

/// A Space that can be published.
pub struct PreparedSpace {
    /// All files of the site.
    pub files: Vec<Upload>,
    /// What the Space's README says, if the Space is new.
    pub card: String,
    plan: SpacePlan,
}

/// Lists a site's files and makes the Space's card.
///
/// # Errors
/// If the folder is no site, or holds other things; if the place is a folder of a repository.
pub fn prepare(plan: SpacePlan) -> Result<PreparedSpace> {
    let site: &Path = &plan.site;
    if !plan.place.folder.is_empty() {
        bail!("{} is a folder of a Space: name the Space alone", plan.place);
    }
    let listed = (OWNER.list)(site);
    let listed = listed.with_context(|| format!("{} is no folder that `dinomaly site` wrote", site.display()))?;
    OWNER.check(site)?;
    let name = |path: PathBuf| path.to_str().map(|path| path.replace('\\', "/"));
    let listed = listed.into_iter().filter(|(_, content)| !matches!(content, Owned::Folder));
    let files = listed.map(|(path, _)| {
        let full = site.join(&path);
        if !full.is_file() {
            bail!("{} is missing, but the site's own list names it: run `dinomaly site` again", full.display());
        }
        let path = name(path).with_context(|| format!("{} has a name that is no text", full.display()))?;
        Ok(Upload { path, content: Content::File(full) })
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    let (_, title) = plan.place.owner_and_name();
    let card = format!(
        "---\ntitle: {}\nemoji: 🔍\ncolorFrom: blue\ncolorTo: gray\nsdk: static\napp_file: index.html\npinned: false\nshort_description: \
         Finds defects in photos, in the browser\ntags:\n- anomaly-detection\n- visual-inspection\n---\n\nPhotos of products are inspected \
         in the browser; they never leave the visitor's device. Made with `dinomaly site`.\n",
        serde_json::to_string(title)?
    );
    Ok(PreparedSpace { files, card, plan })
}

impl PreparedSpace {
    /// Makes the Space, if it is not there, and publishes the site as one commit. An earlier site there is replaced; files of others, and
    /// the README of a Space that is there, stay.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub fn publish(&self) -> Result<Committed> {
        let SpacePlan { place, private, replace, message, .. } = &self.plan;
        Hub::from_env().publish(&Publication {
            place,
            kind: RepoKind::StaticSpace,
            private: *private,
            message: message.as_deref().unwrap_or("Publish the page"),
            files: &self.files,
            if_absent: &[Upload { path: CARD.into(), content: Content::Bytes(self.card.clone().into_bytes()) }],
            owner: &OWNER,
            replace: *replace,
        })
    }
}
