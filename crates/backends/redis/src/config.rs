//! A URL and options in, with the defaults stated.

use std::fmt;
use std::time::Duration;

use icecore_log::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the server is found that holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Servers {
    /// It is this one.
    One(Address),
    /// Sentinels say which is the primary of this name.
    Sentinel(Vec<Address>, String),
    /// The nodes of a cluster say which of them has it; these are asked first.
    Cluster(Vec<Address>),
}

/// Where a store is, and its bounds.
#[derive(Clone)]
pub struct Settings {
    /// Where the servers are.
    pub servers: Servers,
    /// What every key begins with: `icecore`. URL: `prefix`.
    pub prefix: String,
    /// How long a call may take in all, and whatever is retried in it: 10 s. URL: `timeout_ms`.
    pub timeout: Duration,
    /// How many connections there are at the most, half of them to write: 16. URL: `connections_max`.
    pub connections_max: usize,
    /// On how many replicas a commit must be before it is acknowledged: 0. URL: `wait`.
    pub wait: usize,
    /// That nothing is evicted, of a server that does not say so: false. URL: `assume_noeviction`.
    pub assume_noeviction: bool,
    /// How often a waiter looks for what other processes committed: 20 ms.
    pub look_every: Duration,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) tls: Option<TlsCertificates>,
}

/// Who connects.
#[derive(Clone, Default)]
pub(crate) struct Login {
    user: Option<String>,
    password: Option<String>,
    database: i64,
}

/// Who connects, and with which keys, is not shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("servers", &self.servers)
            .field("database", &self.login.database)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("connections_max", &self.connections_max)
            .field("wait", &self.wait)
            .field("is_tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

const OPENING: &str = "opening a store";
const OPTIONS: &str = "prefix, timeout_ms, connections_max, wait, assume_noeviction, password_file, sentinel_password_file, tls_ca, tls_cert, tls_key";

fn invalid(advice: impl Into<String>) -> Error {
    // Nothing of the URL itself: where it cannot be read, nobody knows which part is secret.
    Error::new(ErrorKind::Invalid, OPENING).advise(advice)
}

impl Settings {
    /// Reads a URL: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/PRIMARY`,
    /// `redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT`; with `rediss` for TLS. A password that is not in it comes from the file that
    /// `password_file` names, or from `REDISCLI_AUTH`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be read; the error shows nothing of it.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let (protocol, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(protocol, "redis" | "rediss") || !matches!(kind, "" | "sentinel" | "cluster") {
            return Err(invalid(
                "A Redis store is named redis://HOST:PORT, redis+sentinel://HOST:PORT/PRIMARY or redis+cluster://HOST:PORT, and with TLS rediss",
            ));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, place) = place.rsplit_once('@').map_or((None, place), |(user, place)| (Some(user), place));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let default_port = if kind == "sentinel" { 26_379 } else { 6_379 };
        let mut hosts =
            hosts.split(',').map(|host| address(host, default_port)).collect::<Result<Vec<_>>>()?;
        let mut login = login(user)?;
        let servers = match (kind, path) {
            ("sentinel", "") => {
                return Err(invalid(
                    "Sentinels are asked for a primary by its name: redis+sentinel://HOST:PORT/PRIMARY",
                ));
            }
            ("sentinel", path) => Servers::Sentinel(hosts, decoded(path)?),
            ("cluster", "") => Servers::Cluster(hosts),
            ("cluster", _) => {
                return Err(invalid("A cluster has no other database than 0: nothing follows the hosts"));
            }
            _ if hosts.len() > 1 => {
                return Err(invalid("Several hosts are redis+sentinel:// or redis+cluster://"));
            }
            (_, path) => {
                login.database = if path.is_empty() {
                    0
                } else {
                    number("The database behind the host", path, 0, 1 << 20)?
                };
                Servers::One(hosts.remove(0))
            }
        };
        let mut settings = Self {
            servers,
            prefix: "icecore".to_owned(),
            timeout: Duration::from_secs(10),
            connections_max: 16,
            wait: 0,
            assume_noeviction: false,
            look_every: Duration::from_millis(20),
            login,
            sentinel_login: Login::default(),
            tls: (protocol == "rediss").then_some(TlsCertificates { client_tls: None, root_cert: None }),
        };
        settings.take(query)?;
        if settings.login.password.is_none() {
            settings.login.password = std::env::var("REDISCLI_AUTH").ok().filter(|found| !found.is_empty());
        }
        Ok(settings)
    }

    fn take(&mut self, query: &str) -> Result<()> {
        let (mut certificate, mut key) = (None, None);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value)?;
            match name {
                "prefix" => self.prefix = prefix(value)?,
                "timeout_ms" => self.timeout = Duration::from_millis(number(name, &value, 1, 3_600_000)?),
                "connections_max" => self.connections_max = number(name, &value, 2, 1_000)?,
                "wait" => self.wait = number(name, &value, 0, 100)?,
                "assume_noeviction" => {
                    self.assume_noeviction =
                        value.parse().map_err(|_| invalid("assume_noeviction is true or false"))?;
                }
                "password_file" => self.login.password = Some(password(&value)?),
                "sentinel_password_file" => self.sentinel_login.password = Some(password(&value)?),
                "tls_ca" => {
                    let certificates = self.certificates(name)?;
                    certificates.root_cert = Some(file(&value)?);
                }
                "tls_cert" => certificate = Some(file(&value)?),
                "tls_key" => key = Some(file(&value)?),
                _ => return Err(invalid(format!("A Redis URL has no other options than {OPTIONS}"))),
            }
        }
        match (certificate, key) {
            (Some(client_cert), Some(client_key)) => {
                self.certificates("tls_cert")?.client_tls = Some(ClientTlsConfig { client_cert, client_key });
            }
            (None, None) => {}
            _ => return Err(invalid("tls_cert and tls_key are given together")),
        }
        Ok(())
    }

    fn certificates(&mut self, name: &str) -> Result<&mut TlsCertificates> {
        self.tls.as_mut().ok_or_else(|| invalid(format!("{name} is of rediss://, which is with TLS")))
    }

    /// Who is connected and how, for people.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let user = self.login.user.as_deref().unwrap_or("default");
        let tls = if self.tls.is_some() { "yes" } else { "no" };
        icecore_remote::connection_facts(user, tls, self.connections_max, self.timeout)
    }

    /// What connects to a server.
    pub(crate) fn client(&self, address: &Address, login: &Login) -> Result<Client> {
        let (host, port) = (address.host.clone(), address.port);
        let place = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let mut redis = RedisConnectionInfo::default().set_db(login.database).set_skip_set_lib_name();
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password);
        }
        let client = place.into_connection_info().and_then(|info| {
            let info = info.set_redis_settings(redis);
            match &self.tls {
                None => Client::open(info),
                Some(certificates) => {
                    // Whichever other part of the process has installed one: it will do.
                    let _ = rustls::crypto::ring::default_provider().install_default();
                    Client::build_with_tls(info, certificates.clone())
                }
            }
        });
        // What it says may hold a part of a key.
        client.map_err(|_| {
            invalid("tls_ca, tls_cert and tls_key name files in the PEM format: one of them cannot be read")
        })
    }
}

fn address(host: &str, default_port: u16) -> Result<Address> {
    let unreadable = || invalid("A server is named HOST, HOST:PORT or [ADDRESS]:PORT");
    let bracketed =
        host.strip_prefix('[').map(|rest| rest.split_once(']').ok_or_else(unreadable)).transpose()?;
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(unreadable)?)),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| unreadable()))?;
    if host.is_empty() || port == 0 {
        return Err(unreadable());
    }
    Ok(Address { host: host.to_owned(), port })
}

fn login(user: Option<&str>) -> Result<Login> {
    let Some(user) = user else { return Ok(Login::default()) };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let text = |text: &str| decoded(text).map(|text| Some(text).filter(|text| !text.is_empty()));
    Ok(Login { user: text(user)?, password: text(password)?, database: 0 })
}

/// Nothing that would have to be quoted, and no brace, which a cluster would look at.
fn prefix(value: String) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b':');
    if value.is_empty() || value.len() > 100 || !value.bytes().all(is_plain) {
        return Err(invalid("A prefix has 1 to 100 letters, digits and _ . - :"));
    }
    Ok(value)
}

fn number<N: TryFrom<u64>>(name: &str, value: &str, least: u64, most: u64) -> Result<N> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| invalid(format!("{name} is between {least} and {most}")))
}

fn decoded(value: &str) -> Result<String> {
    let decoded = percent_decode_str(value).decode_utf8();
    let decoded =
        decoded.map_err(|_| invalid("Bytes other than letters, digits and _ . - stand as %XX, in UTF-8"))?;
    Ok(decoded.into_owned())
}

fn file(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::new(ErrorKind::Refused, OPENING)
            .because(error)
            .advise("A file that the URL names cannot be read")
    })
}

fn password(path: &str) -> Result<String> {
    let content = String::from_utf8(file(path)?).map_err(|_| invalid("A password's file is text"))?;
    Ok(content.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_of_a_url_is_read() {
        for (url, servers) in [
            ("redis://db", Servers::One(at("db", 6379))),
            ("redis://ada:s%40@db:7/3?prefix=a:b&timeout_ms=70", Servers::One(at("db", 7))),
            ("rediss://:p@q@[::1]:6000/", Servers::One(at("::1", 6000))),
            (
                "redis+sentinel://a,b:5/main?wait=2",
                Servers::Sentinel(vec![at("a", 26_379), at("b", 5)], "main".to_owned()),
            ),
            ("rediss+cluster://u@a:1,[::2]", Servers::Cluster(vec![at("a", 1), at("::2", 6379)])),
        ] {
            assert_eq!(Settings::parse(url).unwrap().servers, servers, "{url}");
        }
        let settings = Settings::parse("redis://ada:s%40@db:7/3?connections_max=4&wait=1").unwrap();
        assert_eq!((settings.connections_max, settings.wait, settings.login.database), (4, 1, 3));
        assert_eq!(settings.login.user.as_deref(), Some("ada"));
        assert_eq!(settings.login.password.as_deref(), Some("s@"));
        let rest = Settings::parse("rediss://:p@q@db").unwrap().login;
        assert_eq!((rest.user, rest.password.as_deref()), (None, Some("p@q")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_shows_nothing() {
        for url in [
            "redis:SECRET",
            "redis://SECRET:x:y/z",
            "redis://a,b",
            "redis://a/SECRET",
            "redis://a:0",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis+other://a",
            "redis://a?SECRET=1",
            "redis://a?prefix={SECRET}",
            "redis://a?tls_ca=/SECRET",
            "redis://a?wait=many",
            "rediss://a?tls_cert=/dev/null",
            "redis://a?timeout_ms=0",
        ] {
            let error = Settings::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_and_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "SECRET\n").unwrap();
        let settings =
            Settings::parse(&format!("redis://db?password_file={}", file.path().display())).unwrap();

        assert_eq!(settings.login.password.as_deref(), Some("SECRET"));
        assert!(!format!("{settings:?}").contains("SECRET"));
    }
}
