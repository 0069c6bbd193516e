//! A URL, the environment and AWS's own files in, with the defaults stated.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use icecore_log::grace::Clocks;
use icecore_log::grace::Moment;
use icecore_log::{Durability, Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::{Certificate, ClientOptions, StaticCredentialProvider};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;

use crate::api::{Api, Counts};

/// The longest prefix: with it every key is as long as keys may be, or shorter.
pub(crate) const PREFIX_MAX: usize = 100;
const OPENING: &str = "opening a store";
/// The shortest time of grace but for none: long against whole seconds, in which the service tells the time.
const GRACE_MIN_S: u64 = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const OPTIONS: &str = "region, endpoint, prefix, create, timeout_ms, request_timeout_ms, connections_max, grace_s, durability, profile, credentials_file, access_key_id, secret_access_key, session_token, tls_ca";

/// Where a store is, and its bounds.
#[derive(Clone)]
pub struct Settings {
    /// The table.
    pub table: String,
    /// The region; of an endpoint of your own `us-east-1` if nothing names one. URL: `region`; else `AWS_REGION`, `AWS_DEFAULT_REGION`.
    pub region: String,
    /// Another address than the region's own. URL: `endpoint`; else `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// What every partition key begins with: `icecore`. URL: `prefix`.
    pub prefix: String,
    /// Whether a table that is not there is made, with on-demand billing: false. URL: `create`.
    pub create: bool,
    /// How long a call may take in all, and whatever is retried in it: 30 s. URL: `timeout_ms`.
    pub timeout: Duration,
    /// How long one try of a request may take: 5 s. URL: `request_timeout_ms`.
    pub request_timeout: Duration,
    /// How many requests, and so connections, there are at once, at the most: 64. URL: `connections_max`.
    pub connections_max: usize,
    /// How long after a close its slots are kept, at the least: 1 h. All writers of a store must have the same. URL: `grace_s`.
    pub grace: Duration,
    /// What a commit survives, if the URL says it. URL: `durability`.
    pub durability: Option<Durability>,
    /// How often a waiter looks for what other processes committed, at the least: 1 s. It begins with 50 ms.
    pub look_every: Duration,
    /// The clocks of a writer.
    pub clocks: Clocks,
    login: Login,
    tls_ca: Option<Vec<u8>>,
}

/// What signs, as the URL says.
#[derive(Clone, Default)]
struct Login {
    key: Option<String>,
    secret: Option<String>,
    token: Option<String>,
    profile: Option<String>,
    file: Option<PathBuf>,
}

/// Who signs, and with what, is not shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("table", &self.table)
            .field("region", &self.region)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

fn invalid(advice: impl Into<String>) -> Error {
    // Nothing of the URL itself: where it cannot be read, nobody knows which part is secret.
    Error::new(ErrorKind::Invalid, OPENING).advise(advice)
}

impl Settings {
    /// Reads a URL: `dynamodb://TABLE?region=REGION`. What it does not say comes from the environment.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be read, or names no region; the error shows nothing of it.
    pub fn parse(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("dynamodb://")
            .ok_or_else(|| invalid("A table is named dynamodb://TABLE?region=REGION"))?;
        let (table, query) = rest.split_once('?').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(3..=255).contains(&table.len()) || !table.bytes().all(plain) {
            return Err(invalid(
                "A table's name has 3 to 255 letters, digits and . - _, and credentials are no part of it",
            ));
        }
        let mut settings = Self {
            table: table.to_owned(),
            region: String::new(),
            endpoint: None,
            prefix: "icecore".to_owned(),
            create: false,
            timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            connections_max: 64,
            grace: Duration::from_secs(3_600),
            durability: None,
            look_every: Duration::from_secs(1),
            clocks: Clocks::default(),
            login: Login::default(),
            tls_ca: None,
        };
        let mut region = None;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value
                .map_err(|_| invalid("Bytes other than letters, digits and _ . - stand as %XX, in UTF-8"))?;
            match name {
                "region" => region = Some(value.into_owned()),
                _ => settings.take(name, &value)?,
            }
        }
        settings.endpoint = settings
            .endpoint
            .or_else(|| variable("AWS_ENDPOINT_URL_DYNAMODB"))
            .or_else(|| variable("AWS_ENDPOINT_URL"));
        let own = settings.endpoint.is_some().then(|| "us-east-1".to_owned());
        let named =
            region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")).or(own);
        settings.region =
            named.filter(|region| !region.is_empty() && region.bytes().all(plain)).ok_or_else(|| {
                invalid("A region is needed, such as region=eu-central-1, or the variable AWS_REGION")
            })?;
        Ok(settings)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "prefix" => self.prefix = prefix(value)?,
            "create" => self.create = value.parse().map_err(|_| invalid("create is true or false"))?,
            "timeout_ms" => self.timeout = Duration::from_millis(number(name, value, 1, 3_600_000)?),
            "request_timeout_ms" => {
                self.request_timeout = Duration::from_millis(number(name, value, 1, 600_000)?)
            }
            "connections_max" => self.connections_max = number(name, value, 1, 10_000)?,
            "grace_s" => self.grace = grace(value)?,
            "durability" => self.durability = Some(durability(value)?),
            "profile" => self.login.profile = Some(value.to_owned()),
            "credentials_file" => self.login.file = Some(PathBuf::from(value)),
            "access_key_id" => self.login.key = Some(value.to_owned()),
            "secret_access_key" => self.login.secret = Some(value.to_owned()),
            "session_token" => self.login.token = Some(value.to_owned()),
            "tls_ca" => self.tls_ca = Some(file(&PathBuf::from(value))?),
            _ => return Err(invalid(format!("A DynamoDB URL has no other options than {OPTIONS}"))),
        }
        Ok(())
    }

    /// Whether what was seen then may have been closed and deleted since.
    pub(crate) fn is_stale(&self, seen: Moment) -> bool {
        self.clocks.is_stale(seen, self.grace)
    }

    /// What an acknowledged commit survives. The service keeps three copies in three places; nobody knows what another address leads to.
    pub(crate) fn survives(&self) -> Durability {
        let found = if self.endpoint.is_some() { Durability::Disk } else { Durability::Replicated };
        self.durability.unwrap_or(found)
    }

    /// Where requests go.
    pub(crate) fn address(&self) -> String {
        let own = || {
            let suffix = if self.region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://dynamodb.{}.amazonaws.com{suffix}", self.region)
        };
        let address = self.endpoint.clone().unwrap_or_else(own);
        format!("{}/", address.trim_end_matches('/'))
    }

    pub(crate) fn api(&self) -> Result<Api> {
        // Whichever other part of the process has installed one: it will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = self.address();
        // Each try has a limit of its own.
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_max_idle_per_host(self.connections_max)
            .with_allow_http(endpoint.starts_with("http://"));
        if let Some(pem) = &self.tls_ca {
            let unreadable = |_| invalid("tls_ca names a file of certificates in the PEM format");
            for certificate in Certificate::from_pem_bundle(pem).map_err(unreadable)? {
                options = options.with_root_certificate(certificate);
            }
        }
        let client = ReqwestConnector::default().connect(&options);
        Ok(Api {
            client: client.map_err(|_| invalid("The options do not make a client: can tls_ca be read?"))?,
            credentials: self.login.provider()?,
            region: self.region.clone(),
            endpoint,
            request_timeout: self.request_timeout,
            room: Semaphore::new(self.connections_max),
            counts: Counts::default(),
        })
    }
}

impl Login {
    /// The first of: the URL's key, the profile that it names, the environment's key, the profile of the environment or `default`, and
    /// what a container, a web identity or the machine itself is given, which is fetched again before it expires.
    fn provider(&self) -> Result<AwsCredentialProvider> {
        let fixed = |key, secret, token| -> AwsCredentialProvider {
            Arc::new(StaticCredentialProvider::new(AwsCredential { key_id: key, secret_key: secret, token }))
        };
        match (&self.key, &self.secret) {
            (Some(key), Some(secret)) => return Ok(fixed(key.clone(), secret.clone(), self.token.clone())),
            (None, None) => {}
            _ => return Err(invalid("access_key_id and secret_access_key are given together")),
        }
        let is_named = self.profile.is_some() || self.file.is_some();
        if is_named || variable("AWS_ACCESS_KEY_ID").is_none() {
            let name = self
                .profile
                .clone()
                .or_else(|| variable("AWS_PROFILE"))
                .unwrap_or_else(|| "default".to_owned());
            let home = || Some(PathBuf::from(variable("HOME")?).join(".aws/credentials"));
            let path = self
                .file
                .clone()
                .or_else(|| variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from))
                .or_else(home);
            let text = path.and_then(|path| std::fs::read_to_string(path).ok());
            match text.and_then(|text| profile(&text, &name)) {
                Some([key, secret, token]) => {
                    return Ok(fixed(key, secret, Some(token).filter(|token| !token.is_empty())));
                }
                None if is_named => {
                    return Err(invalid(
                        "The profile has no aws_access_key_id and aws_secret_access_key in the file of credentials",
                    ));
                }
                None => {}
            }
        }
        // The rules of where credentials come from are the same for every service.
        let any = AmazonS3Builder::from_env().with_bucket_name("none").build();
        let any = any.map_err(|_| invalid("The variables AWS_… of the environment cannot be read"))?;
        Ok(any.credentials().clone())
    }
}

/// The key, the secret and the token, if any, of a profile in AWS's file of credentials.
fn profile(text: &str, name: &str) -> Option<[String; 3]> {
    let lines = text.lines().map(str::trim);
    let lines = lines.skip_while(|line| *line != format!("[{name}]")).skip(1);
    let mut found = [const { String::new() }; 3];
    for line in lines.take_while(|line| !line.starts_with('[')) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let place = match name.trim() {
            "aws_access_key_id" => 0,
            "aws_secret_access_key" => 1,
            "aws_session_token" => 2,
            _ => continue,
        };
        value.trim().clone_into(&mut found[place]);
    }
    (!found[0].is_empty() && !found[1].is_empty()).then_some(found)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn file(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::new(ErrorKind::Refused, OPENING)
            .because(error)
            .advise("A file that the URL names cannot be read")
    })
}

fn endpoint(value: &str) -> Result<String> {
    let place = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    let is_plain = |place: &&str| !place.is_empty() && !place.contains(['@', '?', '#']);
    place.filter(is_plain).ok_or_else(|| invalid("An endpoint is http://HOST:PORT or https://HOST:PORT"))?;
    Ok(value.to_owned())
}

fn prefix(value: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=PREFIX_MAX).contains(&value.len()) || !value.bytes().all(plain) {
        return Err(invalid(format!("A prefix has 1 to {PREFIX_MAX} letters, digits and _ . -")));
    }
    Ok(value.to_owned())
}

fn grace(value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().filter(|seconds| *seconds == 0 || *seconds >= GRACE_MIN_S);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        invalid(format!("grace_s is {GRACE_MIN_S} or more, or 0: then every append looks before it answers"))
    })
}

fn durability(value: &str) -> Result<Durability> {
    let all = [Durability::Process, Durability::Machine, Durability::Disk, Durability::Replicated];
    all.into_iter()
        .find(|durability| durability.name() == value)
        .ok_or_else(|| invalid("durability is process, machine, disk or replicated"))
}

fn number<N: TryFrom<u64>>(name: &str, value: &str, least: u64, most: u64) -> Result<N> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| invalid(format!("{name} is between {least} and {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_with_its_defaults() {
        let settings = Settings::parse("dynamodb://agents?region=eu-central-1").unwrap();
        assert_eq!(settings.address(), "https://dynamodb.eu-central-1.amazonaws.com/");
        assert_eq!(
            (settings.prefix.as_str(), settings.create, settings.grace.as_secs()),
            ("icecore", false, 3_600)
        );
        assert_eq!(settings.survives(), Durability::Replicated);

        let url = "dynamodb://agents?endpoint=http%3A%2F%2Flocalhost:8000&prefix=a.b&create=true&grace_s=300&timeout_ms=70&request_timeout_ms=7&connections_max=2&region=here";
        let settings = Settings::parse(url).unwrap();
        assert_eq!(settings.address(), "http://localhost:8000/");
        assert_eq!(settings.survives(), Durability::Disk);
        assert_eq!((settings.create, settings.connections_max, settings.region.as_str()), (true, 2, "here"));
        let china = Settings::parse("dynamodb://agents?region=cn-north-1").unwrap();
        assert_eq!(china.address(), "https://dynamodb.cn-north-1.amazonaws.com.cn/");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_shows_nothing() {
        for url in [
            "dynamodb:SECRET",
            "dynamodb://key:SECRET@agents?region=x",
            "dynamodb://ab?region=x",
            "dynamodb://agents?region=SE/CRET",
            "dynamodb://agents?region=x&SECRET=1",
            "dynamodb://agents?region=x&prefix=a/SECRET",
            "dynamodb://agents?region=x&endpoint=SECRET",
            "dynamodb://agents?region=x&endpoint=http://a:SECRET@b",
            "dynamodb://agents?region=x&create=SECRET",
            "dynamodb://agents?region=x&grace_s=299",
            "dynamodb://agents?region=x&durability=SECRET",
            "dynamodb://agents?region=x&timeout_ms=0",
        ] {
            let error = Settings::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
        let half = Settings::parse("dynamodb://agents?region=x&access_key_id=SECRET").unwrap();
        assert_eq!(half.api().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn credentials_come_from_a_profile_of_a_file_and_are_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[default]\naws_access_key_id = OTHER\naws_secret_access_key = OTHER\n\n# note\n[agents]\naws_access_key_id=SECRET-1\naws_secret_access_key = SECRET/2=\naws_session_token = SECRET-3\n[half]\naws_access_key_id = x\n";
        std::fs::write(file.path(), text).unwrap();
        let at = |profile: &str| {
            let url = format!(
                "dynamodb://agents?region=x&credentials_file={}&profile={profile}",
                file.path().display()
            );
            Settings::parse(&url).unwrap()
        };

        let found = at("agents").api().unwrap().credentials.get_credential().await.unwrap();
        assert_eq!((&*found.key_id, &*found.secret_key), ("SECRET-1", "SECRET/2="));
        assert_eq!(found.token.as_deref(), Some("SECRET-3"));
        assert!(!format!("{:?} {:?}", at("agents"), at("agents").api()).contains("SECRET"));
        for missing in ["half", "none"] {
            assert_eq!(at(missing).api().unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
