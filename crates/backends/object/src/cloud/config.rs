//! A URL in, with the defaults stated; and `object_store`'s clients out.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use icecore_log::{Durability, Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use percent_encoding::percent_decode_str;

use super::Cloud;
use crate::store::Settings;

const DOING: &str = "opening a store";
/// The longest prefix: with it, no name is longer than the 1,024 bytes that all systems take.
const PREFIX_MAX: usize = 300;
/// How long one request may take, and a connection until it is there.
const REQUEST_TIMEOUT: &str = "30 seconds";
const CONNECT_TIMEOUT: &str = "5 seconds";

fn invalid(advice: impl Into<String>) -> Error {
    // Nothing of the URL itself: where it cannot be read, nobody knows which part is secret.
    Error::new(ErrorKind::Invalid, DOING).advise(advice)
}

/// A URL in its parts.
struct Parts {
    system: &'static str,
    bucket: String,
    root: String,
    options: Vec<(String, String)>,
}

pub(super) fn parse(url: &str) -> Result<(Cloud, Settings)> {
    let Parts { system, bucket, root, options } = split(url)?;
    let mut settings = Settings::new(system, Durability::Replicated);
    let mut durability = None;
    let mut passed_on = Vec::new();
    for (name, value) in options {
        match name.as_str() {
            "timeout_ms" => settings.timeout = Duration::from_millis(number(&name, &value, 1)?),
            "grace_s" => settings.grace = Duration::from_secs(number(&name, &value, 0)?),
            "requests_max" => {
                settings.parallel = usize::try_from(number(&name, &value, 1)?).unwrap_or(usize::MAX)
            }
            "durability" => durability = Some(durability_of(&value)?),
            _ => passed_on.push((name, value)),
        }
    }
    // Whichever other part of the process has installed one: it will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (objects, lists, endpoint) = match system {
        "s3" => s3(&bucket, passed_on)?,
        "gcs" => gcs(&bucket, passed_on)?,
        _ => azure(&bucket, passed_on)?,
    };
    let found = match &endpoint {
        Some(_) => Durability::Disk,
        None => Durability::Replicated,
    };
    settings.durability = durability.unwrap_or(found);
    let said = match (&endpoint, durability) {
        (_, Some(_)) => "as the URL says",
        (Some(_), None) => {
            "an endpoint of your own cannot be asked: taken as disk; the option durability says otherwise"
        }
        (None, None) => "what the provider promises",
    };
    let place = [
        ("bucket", bucket),
        ("prefix", root.clone()),
        ("endpoint", endpoint.as_deref().map_or("the provider's own", shown).to_owned()),
        ("durability_found", said.to_owned()),
    ];
    settings.facts = place.map(|(name, value)| (name.to_owned(), value)).into();
    Ok((Cloud { objects, lists, root }, settings))
}

fn split(url: &str) -> Result<Parts> {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let system = match scheme {
        "s3" => "s3",
        "gs" => "gcs",
        "az" => "azure",
        _ => {
            return Err(invalid(
                "A store in a bucket is named s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
            ));
        }
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(invalid(
            "Credentials are no part of a bucket's name: they come from the environment, or as options",
        ));
    }
    let (bucket, root) = place.split_once('/').unwrap_or((place, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if bucket.is_empty() || !bucket.bytes().all(plain) {
        return Err(invalid("A bucket's name has letters, digits and . - _, such as in s3://agents/icecore"));
    }
    if bucket.ends_with("--x-s3") {
        return Err(invalid(
            "A directory bucket does not list its objects in order: use a general purpose bucket",
        ));
    }
    let root = root.trim_end_matches('/');
    let is_segment = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| plain(byte) || byte == b'=')
            && !part.bytes().all(|byte| byte == b'.')
    };
    if root.len() > PREFIX_MAX || !(root.is_empty() || root.split('/').all(is_segment)) {
        return Err(invalid(format!(
            "A prefix has at most {PREFIX_MAX} letters, digits and . - _ = between slashes"
        )));
    }
    let mut options = Vec::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| {
            invalid("In an option's value, bytes other than letters, digits and _ . - stand as %XX, in UTF-8")
        })?;
        options.push((name.to_owned(), value.into_owned()));
    }
    let root = if root.is_empty() { String::new() } else { format!("{root}/") };
    Ok(Parts { system, bucket: bucket.to_owned(), root, options })
}

/// An endpoint without a user name, a password and options.
fn shown(endpoint: &str) -> &str {
    let place = endpoint.split('?').next().unwrap_or_default();
    place.rsplit('@').next().unwrap_or_default()
}

fn number(name: &str, value: &str, min: u64) -> Result<u64> {
    value
        .parse()
        .ok()
        .filter(|number| *number >= min)
        .ok_or_else(|| invalid(format!("The option {name} is a whole number, {min} or more")))
}

fn durability_of(value: &str) -> Result<Durability> {
    let all = [Durability::Process, Durability::Machine, Durability::Disk, Durability::Replicated];
    all.into_iter()
        .find(|durability| durability.name() == value)
        .ok_or_else(|| invalid("The option durability is process, machine, disk or replicated"))
}

/// Requests that failed are sent again a few times by the client; what is in doubt is then decided above it.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(20),
    }
}

/// A store's options by `object_store`'s own names; those of the client that are ours come first, so that a URL may change them.
fn keys<K: FromStr>(options: Vec<(String, String)>, endpoint: &str) -> Result<Vec<(K, String)>> {
    let is_plain = options.iter().any(|(name, value)| name == "endpoint" && value.starts_with("http://"));
    let ours = [("timeout", REQUEST_TIMEOUT), ("connect_timeout", CONNECT_TIMEOUT)];
    let ours = ours.into_iter().chain(is_plain.then_some(("allow_http", "true")));
    let all = ours.map(|(name, value)| (name.to_owned(), value.to_owned())).chain(options);
    all.map(|(name, value)| {
        let name = if name == "endpoint" { endpoint } else { &name };
        let shown: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        let key = K::from_str(name).map_err(|_| invalid(format!("There is no option {shown}")))?;
        Ok((key, value))
    })
    .collect()
}

type Clients = (Arc<dyn ObjectStore>, Arc<dyn PaginatedListStore>, Option<String>);

/// An option that the client does not take. What it says may hold the value.
fn unusable(_: object_store::Error) -> Error {
    invalid(
        "The options, or the variables of the environment, do not make a client: one of their values cannot be read, or is missing",
    )
}

fn s3(bucket: &str, options: Vec<(String, String)>) -> Result<Clients> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries());
    for (key, value) in keys(options, "endpoint")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let client = Arc::new(builder.build().map_err(unusable)?);
    Ok((client.clone(), client, endpoint))
}

fn gcs(bucket: &str, options: Vec<(String, String)>) -> Result<Clients> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retries());
    for (key, value) in keys(options, "base_url")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let client = Arc::new(builder.build().map_err(unusable)?);
    Ok((client.clone(), client, endpoint))
}

fn azure(container: &str, options: Vec<(String, String)>) -> Result<Clients> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retries());
    for (key, value) in keys(options, "endpoint")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let client = Arc::new(builder.build().map_err(unusable)?);
    Ok((client.clone(), client, endpoint))
}
