//! A bucket in a directory of this machine, for tests and for looking at what a store in a bucket is made of.
//!
//! `object_store` has one too; it does not sync, does not replace conditionally, does not page, and cannot have names of 512 bytes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use icecore_log::{SystemEntropy, Timestamp, clock};

use crate::bucket::{Bucket, Fault, FaultKind, Folders, Listed, Object};

/// A directory as a [`Bucket`]. Any number of processes may share it.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

/// The most bytes of a file's name; a longer segment goes on in a folder below, behind a `+`.
const PIECE: usize = 200;
/// The folder of files that are being written.
const NEW: &str = ".new";
/// The file that is locked by who replaces or deletes.
const LOCK: &str = ".lock";

impl Directory {
    /// A bucket in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// Those of making it.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(root.join(NEW))?;
        File::create(root.join(LOCK))?;
        Ok(Self { root })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let root = self.root.clone();
        match tokio::task::spawn_blocking(move || work(&root)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                let kind = match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Refused,
                    _ => FaultKind::Lost,
                };
                Err(Fault::new(kind, error.to_string()))
            }
            Err(error) => Err(Fault::new(FaultKind::Lost, error.to_string())),
        }
    }
}

/// Where an object's file is.
fn path_of(root: &Path, name: &str) -> PathBuf {
    let mut path = root.to_owned();
    for segment in name.split('/') {
        let mut rest = segment;
        while rest.len() > PIECE {
            let (piece, after) = rest.split_at(PIECE);
            path.push(format!("{piece}+"));
            rest = after;
        }
        path.push(rest);
    }
    path
}

/// `None` for an error that says that there is no such file.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file that nobody sees yet, and syncs it.
fn written(root: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    // Numbers of processes come back, and one that was killed may have left its file, which is then an object's too.
    let name = u128::from_le_bytes(clock::random(&SystemEntropy));
    let path = root.join(NEW).join(format!("{name:032x}"));
    let mut file = File::create_new(&path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(path)
}

/// Syncs every folder from that of a file up to the root: each may have been made a moment ago, by whomever.
fn sync_above(root: &Path, path: &Path) -> io::Result<()> {
    let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    folders.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

fn tag_of(metadata: &fs::Metadata) -> String {
    format!("{}-{}-{}-{}", metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

/// Held until dropped: one at a time, of all processes.
fn locked(root: &Path) -> io::Result<File> {
    let file = File::open(root.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

#[async_trait]
impl Bucket for Directory {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Fault> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let (new, path) = (written(root, &bytes)?, path_of(root, &name));
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            // A link is made if its name is free, and has all its bytes from the first moment on.
            let linked = fs::hard_link(&new, &path);
            fs::remove_file(&new)?;
            let is_made = match linked {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            // Also what another has made: whoever reads it next takes it for durable.
            sync_above(root, &path)?;
            Ok(is_made)
        })
        .await
    }

    async fn replace(&self, name: &str, bytes: Bytes, tag: &str) -> Result<bool, Fault> {
        let (name, tag) = (name.to_owned(), tag.to_owned());
        self.blocking(move |root| {
            let path = path_of(root, &name);
            let new = written(root, &bytes)?;
            let _lock = locked(root)?;
            if found(fs::metadata(&path))?.is_none_or(|metadata| tag_of(&metadata) != tag) {
                return fs::remove_file(&new).map(|()| false);
            }
            fs::rename(&new, &path)?;
            sync_above(root, &path).map(|()| true)
        })
        .await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Object>, Fault> {
        let name = name.to_owned();
        self.blocking(move |root| {
            let Some(mut file) = found(File::open(path_of(root, &name)))? else {
                return Ok(None);
            };
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Ok(None);
            }
            let range = range.unwrap_or(0..u64::MAX);
            let length = range.end.min(metadata.len()).saturating_sub(range.start);
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(range.start.min(metadata.len())))?;
            file.take(length).read_to_end(&mut bytes)?;
            Ok(Some(Object { bytes: bytes.into(), size: metadata.len(), tag: tag_of(&metadata) }))
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Listed>, Fault> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        self.blocking(move |root| {
            let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut listed = Vec::new();
            if folder.is_empty() {
                walk(root, "", &mut listed)?;
            } else {
                walk(&path_of(root, folder), &format!("{folder}/"), &mut listed)?;
            }
            listed.retain(|found| found.name.starts_with(&prefix) && found.name > after);
            listed.sort_by(|one, other| one.name.cmp(&other.name));
            listed.truncate(max);
            Ok(listed)
        })
        .await
    }

    async fn folders(&self, prefix: &str, cursor: Option<&str>, max: usize) -> Result<Folders, Fault> {
        let base = prefix.rsplit_once('/').map_or("", |(base, _)| base);
        let below = |name: &str| name.get(base.len() + 1..)?.split_once('/').map(|(folder, _)| folder.len());
        let listed = self.list(prefix, None, usize::MAX).await?;
        let mut names: Vec<String> = listed
            .into_iter()
            .filter_map(|found| {
                below(&found.name).map(|length| found.name[..=base.len() + length].to_owned())
            })
            .collect();
        names.dedup();
        names.retain(|name| cursor.is_none_or(|cursor| name.as_str() > cursor));
        // Objects in order of their names are not folders in order of theirs.
        names.sort();
        let is_more = names.len() > max;
        names.truncate(max);
        let next = names.last().filter(|_| is_more).cloned();
        Ok(Folders { names, next })
    }

    async fn delete(&self, names: Vec<String>) -> Result<(), Fault> {
        self.blocking(move |root| {
            let _lock = locked(root)?;
            for name in names {
                let path = path_of(root, &name);
                if found(fs::remove_file(&path))?.is_some() {
                    sync_above(root, &path)?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Every file below a folder, by the name of its object.
fn walk(folder: &Path, name: &str, into: &mut Vec<Listed>) -> io::Result<()> {
    let Some(entries) = found(fs::read_dir(folder))? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str().filter(|file| !file.starts_with('.') || !name.is_empty()) else {
            continue;
        };
        let Some(metadata) = found(entry.metadata())? else { continue };
        if metadata.is_dir() {
            let below = match file.strip_suffix('+') {
                Some(piece) => format!("{name}{piece}"),
                None => format!("{name}{file}/"),
            };
            walk(&entry.path(), &below, into)?;
        } else {
            let modified = Timestamp(metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
            into.push(Listed { name: format!("{name}{file}"), size: metadata.len(), modified });
        }
    }
    Ok(())
}
