//! Buckets, by the client that the store uses.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use icecore::Result;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, PutMode, PutOptions};
use percent_encoding::percent_decode_str;

use super::bare::{Bytes, Client};
use super::{failed, said};

/// Objects behind a prefix, a row each.
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
    root: String,
}

impl Bucket {
    /// In a place such as those of the tests.
    pub fn open(url: &str) -> Result<Self> {
        let unreadable = || said("a bucket of no test".to_owned());
        let (place, query) = url.split_once('?').ok_or_else(unreadable)?;
        let (scheme, place) = place.split_once("://").ok_or_else(unreadable)?;
        let (bucket, root) = place.split_once('/').ok_or_else(unreadable)?;
        let options: Vec<(&str, String)> = query
            .split('&')
            .filter_map(|option| option.split_once('='))
            .map(|(name, value)| (name, percent_decode_str(value).decode_utf8_lossy().into_owned()))
            .collect();
        let plain = ClientOptions::new().with_allow_http(true);
        let objects: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let mut builder = AmazonS3Builder::new().with_client_options(plain).with_bucket_name(bucket);
                for (name, value) in options {
                    builder = builder.with_config(AmazonS3ConfigKey::from_str(name).map_err(failed)?, value);
                }
                Arc::new(builder.build().map_err(failed)?)
            }
            "gs" => {
                let mut builder =
                    GoogleCloudStorageBuilder::new().with_client_options(plain).with_bucket_name(bucket);
                for (name, value) in options {
                    let name = if name == "endpoint" { "base_url" } else { name };
                    builder = builder.with_config(GoogleConfigKey::from_str(name).map_err(failed)?, value);
                }
                Arc::new(builder.build().map_err(failed)?)
            }
            _ => {
                let mut builder =
                    MicrosoftAzureBuilder::new().with_client_options(plain).with_container_name(bucket);
                for (name, value) in options {
                    builder = builder.with_config(AzureConfigKey::from_str(name).map_err(failed)?, value);
                }
                Arc::new(builder.build().map_err(failed)?)
            }
        };
        Ok(Self { objects, root: root.to_owned() })
    }
}

#[async_trait]
impl Client for Bucket {
    async fn put(&mut self, rows: Range<usize>, bytes: &Bytes) -> Result<()> {
        let one = [&bytes.header[..], &bytes.body[..]].concat();
        let puts = rows.map(|row| {
            let path = Path::from(format!("{}/bare/{row}", self.root));
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let (objects, one) = (self.objects.clone(), one.clone());
            async move { objects.put_opts(&path, one.into(), options).await }
        });
        try_join_all(puts).await.map_err(failed)?;
        Ok(())
    }
}
