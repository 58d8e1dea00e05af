//! Folders, and the buckets that URLs name: listed, read and written alike, with errors in words.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs::Metadata;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::{Error as PathError, Path};
use object_store::{
    ClientOptions, Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutPayload,
};
use tokio::runtime::Handle;
use url::Url;

use super::folder;
use crate::system::atomic::{check_file, write_file};

/// Number of questions for single files that are under way at a time.
const QUESTIONS: usize = 32;

/// Name of the file that is written and removed to see whether results can be written.
const PROBE: &str = ".dinomaly-write-check";

/// Longest text of a server that is passed on.
const LONGEST_ANSWER: usize = 300;

/// A folder, or a place in a bucket.
#[derive(Clone)]
pub struct Place {
    url: String,
    kind: Kind,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Handle,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket {
        /// What holds the credentials.
        variables: &'static str,
    },
    Server,
}

/// What is known of a file before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Which content it has.
    pub version: Version,
}

/// What tells two contents of one file apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The store's tag of the content.
    Tag(String),
    /// Time of the last change: microseconds of a folder's file, else seconds, for stores without tags.
    Changed(i64),
}

/// A file below a place: its path from there, and what is known of it or why it cannot be read.
pub type Listed = (PathBuf, Result<Stamp, String>);

/// What reading a photo gives.
pub enum Fetched {
    /// Its file's content.
    Content(Vec<u8>),
    /// Why this photo cannot be read, and never will be.
    Unreadable(String),
}

impl Place {
    /// Opens the place of an option; nothing is read yet. Credentials come from the environment.
    ///
    /// # Errors
    /// If the URL is not understood or its scheme not supported.
    pub fn open(option: &str, url: &str, runtime: &Handle) -> Result<Self> {
        // Libraries repeat the URL in their errors.
        let harmless = |error: Error| anyhow!(format!("{error:#}").replace(url, &shown(url)));
        let (kind, store, prefix) =
            opened(url).map_err(harmless).with_context(|| format!("{option} {}", shown(url)))?;
        Ok(Self { url: shown(url), kind, store, prefix, runtime: runtime.clone() })
    }

    /// Checks that a folder is there. Buckets say so themselves.
    fn check_present(&self) -> Result<()> {
        if let Kind::Folder(folder) = &self.kind
            && !folder.is_dir()
        {
            let what = if folder.exists() { "is a file: name its folder" } else { "does not exist" };
            bail!("folder {} {what}", self.url);
        }
        Ok(())
    }

    /// All files below, by their paths from here.
    ///
    /// # Errors
    /// If the place does not exist or cannot be listed.
    pub fn files(&self) -> Result<Vec<Listed>> {
        self.check_present()?;
        if let Kind::Folder(folder) = &self.kind {
            return Ok(folder::files(folder)?
                .into_iter()
                .map(|(path, metadata)| self.listed(path, &metadata))
                .collect());
        }
        let all = self.store.list(Some(&self.prefix)).try_collect::<Vec<ObjectMeta>>();
        let all = self.runtime.block_on(all).map_err(|error| self.in_words("cannot be listed", &error))?;
        let below = all.into_iter().filter_map(|file| {
            let parts: Vec<String> = file.location.prefix_match(&self.prefix)?.map(|p| p.as_ref().into()).collect();
            (!parts.is_empty()).then(|| (parts.join("/").into(), Ok(self.stamp(&file))))
        });
        Ok(below.collect())
    }

    fn listed(&self, path: PathBuf, metadata: &Metadata) -> Listed {
        let location = match folder::in_store(&path) {
            Ok(location) => location,
            Err(what) => {
                let reason = format!("photo {path:?} cannot be read: its name {what}: rename it");
                return (path, Err(reason));
            }
        };
        let path = location.as_ref().into();
        let changed = match metadata.modified() {
            Ok(time) => time.into(),
            Err(error) => return (path, Err(format!("photo {location} cannot be read: {error}"))),
        };
        let file = ObjectMeta { location, last_modified: changed, size: metadata.len(), e_tag: None, version: None };
        (path, Ok(self.stamp(&file)))
    }

    /// Names of the files directly here; none if there is no such place yet.
    ///
    /// # Errors
    /// If the place cannot be listed.
    pub fn names(&self) -> Result<BTreeSet<String>> {
        if let Kind::Folder(folder) = &self.kind {
            return if folder.is_dir() { folder::names(folder) } else { Ok(BTreeSet::new()) };
        }
        let found = match self.runtime.block_on(self.store.list_with_delimiter(Some(&self.prefix))) {
            // A bucket that is missing is told of when something is written.
            Err(StoreError::NotFound { .. }) => return Ok(BTreeSet::new()),
            found => found.map_err(|error| self.in_words("cannot be listed", &error))?,
        };
        Ok(found.objects.iter().filter_map(|file| Some(file.location.filename()?.to_owned())).collect())
    }

    /// Stamps of named files, `None` for those that do not exist.
    ///
    /// # Errors
    /// If the place does not exist, a name is no path, or the store does not answer.
    pub fn stamps(&self, paths: &[String]) -> Result<Vec<Option<Stamp>>> {
        self.check_present()?;
        let answers = stream::iter(paths).map(|path| self.stamp_of(path)).buffered(QUESTIONS);
        self.runtime.block_on(answers.try_collect())
    }

    async fn stamp_of(&self, path: &str) -> Result<Option<Stamp>> {
        match self.store.head(&self.location(path)?).await {
            Ok(file) => Ok(Some(self.stamp(&file))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.in_words(&format!("cannot be asked for {path}"), &error)),
        }
    }

    /// Whether a file exists.
    ///
    /// # Errors
    /// As [`Place::stamps`].
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(self.runtime.block_on(self.stamp_of(path))?.is_some())
    }

    /// Reads a photo whose stamp is known.
    ///
    /// # Errors
    /// If the store refuses or does not answer, so that another try may succeed, or if the file was changed since.
    pub async fn fetch(&self, path: &str, known: &Stamp) -> Result<Fetched> {
        let failed = |error: &StoreError| self.in_words(&format!("cannot be read: {path}"), error);
        let read = match self.store.get(&self.location(path)?).await {
            Ok(read) => read,
            // Its bucket or folder may be gone, which says nothing about the photo.
            Err(StoreError::NotFound { .. }) => {
                bail!("{} was removed since it was listed: run the command again", self.of(path))
            }
            Err(error) if self.is_private_file(path, &error) => {
                return Ok(Fetched::Unreadable(format!("photo {path} cannot be read: {}", root(&error))));
            }
            Err(error) => return Err(failed(&error)),
        };
        let now = self.stamp(&read.meta);
        let is_other = match (&now.version, &known.version) {
            (Version::Tag(now), Version::Tag(known)) => now != known,
            (Version::Changed(now), Version::Changed(known)) => now != known,
            // Some stores have tags in answers and none in lists.
            _ => false,
        };
        if now.size != known.size || is_other {
            bail!("{} was changed since it was listed: run the command again", self.of(path));
        }
        let content = read.bytes().await.map_err(|error| failed(&error))?;
        Ok(Fetched::Content(content.into()))
    }

    /// Checks that files can be written here, and leaves nothing.
    ///
    /// # Errors
    /// If they cannot.
    pub fn check_writable(&self) -> Result<()> {
        if let Kind::Folder(folder) = &self.kind {
            return check_file(&folder.join(PROBE));
        }
        let probe = self.location(PROBE)?;
        let write = self.store.put(&probe, PutPayload::default());
        self.runtime.block_on(write).map_err(|error| self.in_words("cannot be written to", &error))?;
        // Who may write but not remove leaves an empty file, which is no result.
        let _ = self.runtime.block_on(self.store.delete(&probe));
        Ok(())
    }

    /// Writes a file whole, unless it is there already; returns whether it was written.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: Vec<u8>) -> Result<bool> {
        if let Kind::Folder(folder) = &self.kind {
            let path = folder.join(name);
            if path.exists() {
                return Ok(false);
            }
            write_file(&path, &bytes)?;
            return Ok(true);
        }
        let location = self.location(name)?;
        let payload = PutPayload::from(bytes);
        self.runtime.block_on(async {
            match self.store.put_opts(&location, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
                // Stores that know no such condition: what may be there has the same bytes.
                Err(_) => match self.store.put(&location, payload).await {
                    Ok(_) => Ok(true),
                    Err(error) => Err(self.in_words(&format!("cannot be written to: {name}"), &error)),
                },
            }
        })
    }

    fn location(&self, path: &str) -> Result<Path> {
        let below = Path::parse(path).map_err(|error| anyhow!("{path} is no path below {}: {error}", self.url))?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }

    fn of(&self, path: &str) -> String {
        format!("{}/{path}", self.url.trim_end_matches('/'))
    }

    fn stamp(&self, file: &ObjectMeta) -> Stamp {
        let version = match (&self.kind, &file.e_tag) {
            // Its tag holds the file's number, which another mount of the same folder may give otherwise.
            (Kind::Folder(_), _) => Version::Changed(file.last_modified.timestamp_micros()),
            // Azure quotes tags in answers and not in lists.
            (_, Some(tag)) => Version::Tag(tag.trim_start_matches("W/").trim_matches('"').to_owned()),
            (_, None) => Version::Changed(file.last_modified.timestamp()),
        };
        Stamp { size: file.size, version }
    }

    /// Whether a file alone is kept from us, in a folder that can be read.
    fn is_private_file(&self, path: &str, error: &StoreError) -> bool {
        let Kind::Folder(folder) = &self.kind else { return false };
        let kind = causes(error).find_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()));
        let around = folder.join(path);
        kind == Some(std::io::ErrorKind::PermissionDenied) && around.parent().is_some_and(|at| at.read_dir().is_ok())
    }

    fn in_words(&self, what: &str, error: &StoreError) -> Error {
        let url = &self.url;
        let advice = match &self.kind {
            Kind::Bucket { variables } => format!("check {variables} and what they may do there"),
            Kind::Folder(_) => "check who may do so".into(),
            Kind::Server => "the server does not allow it".into(),
        };
        match error {
            StoreError::InvalidPath {
                source: PathError::BadSegment { path, .. } | PathError::EmptySegment { path },
            } => {
                anyhow!(
                    "{url} {what}: the name {path:?} is not supported, which has a control character, or nothing, . or .. between slashes: rename \
                     the file, or name the other photos with --list"
                )
            }
            StoreError::NotFound { .. } => anyhow!("{url} {what}: there is no such bucket or folder ({})", root(error)),
            _ if is_refused(error) => anyhow!("{url} {what}: access is refused ({}): {advice}", root(error)),
            _ if matches!(self.kind, Kind::Server) => anyhow!(
                "{url} {what}: {}; a server lists and takes files by WebDAV, one without it reads photos that --list names",
                root(error)
            ),
            _ => anyhow!("{url} {what}: {}", root(error)),
        }
    }
}

fn causes(error: &StoreError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}

/// Whether a store refused a request. A list that is refused has no error of its own, only the status in its text.
fn is_refused(error: &StoreError) -> bool {
    let is_status = |cause: &(dyn std::error::Error + 'static)| {
        let text = cause.to_string();
        ["401", "403"].iter().any(|status| text.contains(&format!("status code: {status}")))
    };
    matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. })
        || causes(error).any(is_status)
}

/// The innermost cause in one line: of an answer in XML its message.
fn root(error: &StoreError) -> String {
    let text = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    let message = text.split_once("<Message>").and_then(|(_, rest)| Some(rest.split_once("</Message>")?.0));
    let text = message.unwrap_or(&text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[..line.floor_char_boundary(LONGEST_ANSWER)].trim_end_matches('.').to_owned()
}

/// A URL without what may be secret in it: a user's name and password, and signatures after a question mark.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        return format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place));
    };
    if !url.contains("://") || (parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none())
    {
        return url.to_owned();
    }
    parsed.set_query(None);
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.into()
}

fn opened(url: &str) -> Result<(Kind, Arc<dyn ObjectStore>, Path)> {
    if !url.contains("://") {
        return folder(PathBuf::from(url));
    }
    let parsed = Url::parse(url).context("is no URL")?;
    let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|_| {
        anyhow!("has an unknown scheme: expected s3, gs, az, http, https, file, or the path of a folder")
    })?;
    // The one in this program; without a choice of ours reqwest has none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = |variables| Kind::Bucket { variables };
    Ok(match scheme {
        ObjectStoreScheme::Local => {
            return folder(
                parsed.to_file_path().map_err(|()| anyhow!("is no path of this machine: expected file:///FOLDER"))?,
            );
        }
        ObjectStoreScheme::AmazonS3 => (
            bucket("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT"),
            Arc::new(AmazonS3Builder::from_env().with_url(url).build()?),
            prefix,
        ),
        ObjectStoreScheme::GoogleCloudStorage => (
            bucket("GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS"),
            Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).build()?),
            prefix,
        ),
        ObjectStoreScheme::MicrosoftAzure => (
            bucket("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
            Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).build()?),
            prefix,
        ),
        ObjectStoreScheme::Http => {
            let options = ClientOptions::new().with_allow_http(parsed.scheme() == "http");
            let server = &parsed[..url::Position::BeforePath];
            let store = HttpBuilder::new().with_url(server).with_client_options(options).build()?;
            (Kind::Server, Arc::new(store), prefix)
        }
        _ => bail!("has an unknown scheme: expected s3, gs, az, http, https, file, or the path of a folder"),
    })
}

fn folder(path: PathBuf) -> Result<(Kind, Arc<dyn ObjectStore>, Path)> {
    let whole = std::path::absolute(&path)?;
    // Links and `..` on the way, which paths of a store do not have.
    let whole = whole.canonicalize().unwrap_or(whole);
    let prefix = Path::from_absolute_path(&whole).map_err(|_| {
        anyhow!("{whole:?} is not supported, which has a control character or is not Unicode: rename it")
    })?;
    Ok((Kind::Folder(path), Arc::new(LocalFileSystem::new()), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("https://me:word@host/photos?sig=abc"), "https://host/photos");
        for url in ["s3://bucket/photos", "photos/july", "C:\\photos", "file:///photos"] {
            assert_eq!(shown(url), url);
        }
    }

    #[test]
    fn what_is_no_place_is_said() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let refused = |url: &str| match Place::open("--from", url, runtime.handle()) {
            Ok(_) => panic!("{url}"),
            Err(error) => format!("{error:#}"),
        };
        let unknown = refused("ftp://host/photos");
        assert!(unknown.starts_with("--from ftp://host/photos: has an unknown scheme: expected s3, gs,"), "{unknown}");
        assert!(refused("memory:///photos").contains("unknown scheme"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_a_place_with_any_names() {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let names = ["a b.png", "a%23.png", "ü/[1]#~*?.png", "x.txt"];
        std::fs::create_dir(root.path().join("ü")).unwrap();
        names.iter().for_each(|name| std::fs::write(root.path().join(name), name).unwrap());
        let place = Place::open("--from", &root.path().display().to_string(), runtime.handle()).unwrap();
        let mut files: Vec<(String, Stamp)> = place
            .files()
            .unwrap()
            .into_iter()
            .map(|(name, file)| (name.into_os_string().into_string().unwrap(), file.unwrap()))
            .collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(
            files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["a b.png", "a%23.png", "x.txt", "ü/[1]#~*?.png"]
        );
        let again: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
        let stamps = place.stamps(&again).unwrap();
        for ((name, stamp), again) in files.iter().zip(stamps) {
            assert_eq!(Some(stamp), again.as_ref(), "{name}");
            let Fetched::Content(content) = runtime.block_on(place.fetch(name, stamp)).unwrap() else {
                panic!("{name}")
            };
            assert_eq!(content, name.as_bytes());
        }
        let gone = runtime.block_on(place.fetch("y.png", &files[0].1));
        assert!(gone.is_err_and(|error| error.to_string().contains("y.png was removed since it was listed")));
        std::fs::write(root.path().join("x.txt"), "longer than before").unwrap();
        let changed = runtime.block_on(place.fetch("x.txt", &files[2].1));
        assert!(changed.is_err_and(|error| error.to_string().contains("x.txt was changed since it was listed")));
        assert!(place.stamps(&["../x.png".into()]).unwrap_err().to_string().contains("is no path below"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_no_store_has_keeps_no_other_file_away() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for name in [&b"a.png"[..], b"b\t.png", b"c\xff.png"] {
            std::fs::write(root.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        // Links that lead around and nowhere.
        std::os::unix::fs::symlink(root.path(), root.path().join("around")).unwrap();
        std::os::unix::fs::symlink("nowhere.png", root.path().join("d.png")).unwrap();
        let place = Place::open("--from", &root.path().display().to_string(), runtime.handle()).unwrap();
        let mut files = place.files().unwrap();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let reasons: Vec<String> =
            files.into_iter().map(|(_, file)| file.map_or_else(|why| why, |stamp| stamp.size.to_string())).collect();
        assert_eq!(
            reasons,
            [
                "5",
                r#"photo "b\t.png" cannot be read: its name has a control character: rename it"#,
                r#"photo "c\xFF.png" cannot be read: its name is not Unicode: rename it"#
            ]
        );
        assert_eq!(place.names().unwrap().into_iter().collect::<Vec<_>>(), ["a.png", "around", "b\t.png", "d.png"]);
        let odd = root.path().join("\u{1}");
        let error = Place::open("--to", &odd.display().to_string(), runtime.handle()).err().expect("an odd folder");
        assert!(error.root_cause().to_string().contains(r"\u{1}"), "{error:#}");
    }
}
