//! Buckets in the cloud, or of a server that speaks as one: S3, Google Cloud Storage, Azure Blob Storage, over `object_store`.

mod config;
mod fault;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use icecore_log::{Access, Result as IcecoreResult, Timestamp};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};

use crate::bucket::{Bucket, Fault, FaultKind, Folders, Listed, Object};
use crate::store::{BucketStore, Objects, Settings};

/// Objects that one listing may have, on all systems.
const LISTED_MAX: usize = 1_000;

/// A bucket, or all objects in it whose names begin so, as a [`Bucket`].
pub struct Cloud {
    /// A client that sends each request once: of a write that was sent again, the last answer says nothing about the first.
    writes: Arc<dyn ObjectStore>,
    /// A client that sends again what failed.
    objects: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    /// Empty, or ends with `/`.
    root: String,
    /// An object has a version's name only where older versions are kept. Google's have one always.
    versions_tell: bool,
}

/// What it holds has the credentials.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Opens the store that a URL names: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, with `?NAME=VALUE&…` behind it.
///
/// | option | meaning |
/// | --- | --- |
/// | `endpoint` | another server than the provider's own, such as `http://127.0.0.1:9000` |
/// | `timeout_ms` | how long a call may take in all: 60,000 |
/// | `grace_s` | how long what is closed is kept, at the least: 86,400. The same for all writers of a store |
/// | `requests_max` | requests of one call that are under way at once, at the most: 32 |
/// | `durability` | `process`, `machine`, `disk` or `replicated`: what an endpoint of your own keeps acknowledged objects through. Else `disk`; the providers' own are `replicated` |
/// | others | those of `object_store` for the system, such as `region`, `account_name`, `service_account` |
///
/// What a URL leaves out comes from the environment: `AWS_…`, `GOOGLE_…`, `AZURE_…`. Secrets belong there.
///
/// # Errors
/// [`ErrorKind::Invalid`](icecore_log::ErrorKind::Invalid) if it cannot be read, without showing any of its values; else as [`Objects::open`].
pub async fn open(url: &str, access: Access) -> IcecoreResult<BucketStore> {
    let (cloud, settings) = config::parse(url)?;
    let place = settings.facts.clone();
    let opened = Objects::open(Arc::new(cloud), access, settings).await;
    opened.map_err(|error| {
        let said = |name| place.iter().find(|(fact, _)| fact == name).map_or("", |(_, value)| value.as_str());
        error.with("bucket", said("bucket")).with("prefix", said("prefix")).with("endpoint", said("endpoint"))
    })
}

/// Reads such a URL, for who wants to change the settings, or to stand between.
///
/// # Errors
/// As [`open`].
pub fn parse(url: &str) -> IcecoreResult<(Cloud, Settings)> {
    config::parse(url)
}

impl Cloud {
    fn path(&self, name: &str) -> Result<Path, Fault> {
        Path::parse(format!("{}{name}", self.root))
            .map_err(|error| Fault::new(FaultKind::Refused, error.to_string()))
    }

    /// A whole name without what all have in common.
    fn name<'a>(&self, path: &'a Path) -> &'a str {
        path.as_ref().strip_prefix(&self.root).unwrap_or_default()
    }

    async fn got(&self, path: &Path, range: Option<GetRange>) -> Result<Option<Object>, Fault> {
        let got = match self.objects.get_opts(path, GetOptions { range, ..GetOptions::default() }).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(fault::of)?,
        };
        let meta = got.meta.clone();
        Ok(Some(object(&meta, got.bytes().await.map_err(fault::of)?)))
    }

    /// An object without any of its bytes.
    async fn head(&self, path: &Path) -> Result<Option<Object>, Fault> {
        match self.objects.head(path).await {
            Err(Error::NotFound { .. }) => Ok(None),
            head => Ok(Some(object(&head.map_err(fault::of)?, Bytes::new()))),
        }
    }

    async fn page(&self, prefix: &str, options: PaginatedListOptions) -> Result<PaginatedListResult, Fault> {
        let prefix = format!("{}{prefix}", self.root);
        self.lists
            .list_paginated(Some(&prefix).filter(|prefix| !prefix.is_empty()).map(String::as_str), options)
            .await
            .map_err(fault::of)
    }
}

/// Systems tell versions of an object apart by one of these, or by both.
fn tag_of(e_tag: Option<&str>, version: Option<&str>) -> String {
    format!("{}\n{}", e_tag.unwrap_or_default(), version.unwrap_or_default())
}

fn version_of(tag: &str) -> UpdateVersion {
    let (e_tag, version) = tag.split_once('\n').unwrap_or((tag, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    UpdateVersion { e_tag: some(e_tag), version: some(version) }
}

fn object(meta: &ObjectMeta, bytes: Bytes) -> Object {
    Object { bytes, size: meta.size, tag: tag_of(meta.e_tag.as_deref(), meta.version.as_deref()) }
}

#[async_trait]
impl Bucket for Cloud {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, Fault> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.writes.put_opts(&self.path(name)?, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(fault::of(error)),
        }
    }

    async fn replace(&self, name: &str, bytes: Bytes, tag: &str) -> Result<bool, Fault> {
        let options = PutOptions { mode: PutMode::Update(version_of(tag)), ..PutOptions::default() };
        match self.writes.put_opts(&self.path(name)?, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(false)
            }
            Err(error) => Err(fault::of(error)),
        }
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Option<Object>, Fault> {
        let path = self.path(name)?;
        let Some(range) = range else {
            return self.got(&path, None).await;
        };
        if range.is_empty() {
            return self.head(&path).await;
        }
        match self.got(&path, Some(GetRange::Bounded(range.clone()))).await {
            // Systems refuse a range behind the end, or answer it with nonsense.
            Err(fault) => match self.head(&path).await? {
                Some(object) if object.size <= range.start => Ok(Some(object)),
                _ => Err(fault),
            },
            got => got,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Listed>, Fault> {
        let (mut listed, mut token) = (Vec::new(), None);
        while listed.len() < max {
            let options = PaginatedListOptions {
                offset: after.map(|after| format!("{}{after}", self.root)),
                // Where a listing cannot begin in the middle, what was asked for is far behind: then in large pages.
                max_keys: Some(if token.is_none() { max.min(LISTED_MAX) } else { LISTED_MAX }),
                page_token: token,
                ..PaginatedListOptions::default()
            };
            let page = self.page(prefix, options).await?;
            let objects = page.result.objects.iter().map(|meta| Listed {
                name: self.name(&meta.location).to_owned(),
                size: meta.size,
                modified: Timestamp(meta.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX)),
            });
            // Not all systems can begin in the middle: those give everything.
            listed.extend(objects.filter(|found| after.is_none_or(|after| found.name.as_str() > after)));
            token = page.page_token;
            if token.is_none() {
                break;
            }
        }
        listed.truncate(max);
        Ok(listed)
    }

    async fn folders(&self, prefix: &str, cursor: Option<&str>, max: usize) -> Result<Folders, Fault> {
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(max.min(LISTED_MAX)),
            page_token: cursor.map(str::to_owned),
            ..PaginatedListOptions::default()
        };
        let page = self.page(prefix, options).await?;
        let names = page.result.common_prefixes.iter().map(|path| self.name(path).to_owned()).collect();
        Ok(Folders { names, next: page.page_token })
    }

    async fn delete(&self, names: Vec<String>) -> Result<(), Fault> {
        let paths = names.iter().map(|name| self.path(name)).collect::<Result<Vec<_>, _>>()?;
        let mut deleted = self.objects.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(done) = deleted.next().await {
            match done {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(fault::of(error)),
            }
        }
        Ok(())
    }

    async fn facts(&self, name: &str) -> Result<Vec<(&'static str, &'static str)>, Fault> {
        let lifecycle = ("lifecycle_rules", "not asked: none may delete or move what is below the prefix");
        let meta = match self.objects.head(&self.path(name)?).await {
            Err(Error::NotFound { .. }) => return Ok(vec![lifecycle]),
            meta => meta.map_err(fault::of)?,
        };
        let versioning = match meta.version.as_deref() {
            _ if !self.versions_tell => "not asked: where it is on, what was dropped or swept is kept",
            // What was written before it was turned on, or since it was turned off.
            None | Some("" | "null") => "off, or turned on since the store was made",
            Some(_) => {
                "on, or was when the store was made: what was dropped or swept is kept as an old version"
            }
        };
        Ok(vec![("versioning", versioning), lifecycle])
    }
}
