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
/// The shortest time of grace but for none.
const GRACE_MIN_S: u64 = 300;
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
    for (number, (name, value)) in (1..).zip(options) {
        match name.as_str() {
            "timeout_ms" => settings.timeout = Duration::from_millis(whole(&name, &value, 1)?),
            "grace_s" => settings.grace = grace(&value)?,
            "requests_max" => {
                settings.parallel = usize::try_from(whole(&name, &value, 1)?).unwrap_or(usize::MAX)
            }
            "durability" => durability = Some(durability_of(&value)?),
            _ => passed_on.push(Given { number, name, value }),
        }
    }
    // Whichever other part of the process has installed one: it will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Clients { writes, objects, lists, endpoint } = match system {
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
    Ok((Cloud { writes, objects, lists, root, versions_tell: system != "gcs" }, settings))
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

fn whole(name: &str, value: &str, min: u64) -> Result<u64> {
    value
        .parse()
        .ok()
        .filter(|number| *number >= min)
        .ok_or_else(|| invalid(format!("The option {name} is a whole number, {min} or more")))
}

/// A time of grace has to be long against the whole seconds in which stores tell times, and against the longest request.
fn grace(value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().filter(|seconds| *seconds == 0 || *seconds >= GRACE_MIN_S);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        invalid(format!(
            "The option grace_s is {GRACE_MIN_S} or more, or 0: then every append looks before it answers"
        ))
    })
}

fn durability_of(value: &str) -> Result<Durability> {
    let all = [Durability::Process, Durability::Machine, Durability::Disk, Durability::Replicated];
    all.into_iter()
        .find(|durability| durability.name() == value)
        .ok_or_else(|| invalid("The option durability is process, machine, disk or replicated"))
}

/// Reads that failed are sent again a few times by the client.
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
fn keys<K: FromStr>(given: Vec<Given>, endpoint: &str) -> Result<Vec<(K, String)>> {
    let is_plain = given.iter().any(|given| given.name == "endpoint" && given.value.starts_with("http://"));
    let ours = [("timeout", REQUEST_TIMEOUT), ("connect_timeout", CONNECT_TIMEOUT)];
    let ours = ours.into_iter().chain(is_plain.then_some(("allow_http", "true")));
    let ours = ours.map(|(name, value)| Given { number: 0, name: name.to_owned(), value: value.to_owned() });
    ours.chain(given)
        .map(|Given { number, name, value }| {
            let name = if name == "endpoint" { endpoint } else { &name };
            // Not the name itself: behind a raw & in a secret it is a part of that.
            let key = K::from_str(name).map_err(|_| {
                invalid(format!("Option {number} behind the ? has a name that is none. Is there a raw & before it, which stands as %26?"))
            })?;
            Ok((key, value))
        })
    .collect()
}

/// An option that is not ours, and which of all it is.
struct Given {
    number: usize,
    name: String,
    value: String,
}

fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

struct Clients {
    writes: Arc<dyn ObjectStore>,
    objects: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    /// Another than the provider's own.
    endpoint: Option<String>,
}

impl Clients {
    fn new<C: ObjectStore + PaginatedListStore>(writes: C, reads: C, endpoint: Option<String>) -> Self {
        let reads = Arc::new(reads);
        Self { writes: Arc::new(writes), objects: reads.clone(), lists: reads, endpoint }
    }
}

/// An option that the client does not take. What it says may hold the value.
fn unusable(_: object_store::Error) -> Error {
    invalid(
        "The options, or the variables of the environment, do not make a client: one of their values cannot be read, or is missing",
    )
}

fn s3(bucket: &str, options: Vec<Given>) -> Result<Clients> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (key, value) in keys(options, "endpoint")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let writes = builder.clone().with_retry(no_retries()).build().map_err(unusable)?;
    let reads = builder.with_retry(retries()).build().map_err(unusable)?;
    Ok(Clients::new(writes, reads, endpoint))
}

fn gcs(bucket: &str, options: Vec<Given>) -> Result<Clients> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    for (key, value) in keys(options, "base_url")? {
        builder = builder.with_config(key, value);
    }
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let writes = builder.clone().with_retry(no_retries()).build().map_err(unusable)?;
    let reads = builder.with_retry(retries()).build().map_err(unusable)?;
    Ok(Clients::new(writes, reads, endpoint))
}

fn azure(container: &str, options: Vec<Given>) -> Result<Clients> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    for (key, value) in keys(options, "endpoint")? {
        builder = builder.with_config(key, value);
    }
    let is_emulator =
        builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|value| value != "false");
    let endpoint = builder
        .get_config_value(&AzureConfigKey::Endpoint)
        .or_else(|| is_emulator.then(|| "the emulator on this machine".to_owned()));
    let writes = builder.clone().with_retry(no_retries()).build().map_err(unusable)?;
    let reads = builder.with_retry(retries()).build().map_err(unusable)?;
    Ok(Clients::new(writes, reads, endpoint))
}
