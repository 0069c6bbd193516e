//! A URL and options in, with the defaults stated.

use std::fmt;
use std::time::Duration;

use icecore_log::grace::{Clocks, Moment};
use icecore_log::{Error, ErrorKind, Result};
use mongodb::options::{
    ClientOptions, ConnectionString, ReadConcern, ReadPreference, SelectionCriteria, Tls, WriteConcern,
};
use percent_encoding::percent_decode_str;

/// Where a store is, and its bounds.
#[derive(Clone)]
pub struct Settings {
    /// The database: `icecore`. URL: the path.
    pub database: String,
    /// How long a call may take in all, and whatever is tried again in it: 10 s. URL: `timeout_ms`.
    pub timeout: Duration,
    /// How many connections to a server there are at the most: 16. URL: `connections_max`.
    pub connections_max: u32,
    /// How long after a close its commits are kept, at the least: 1 h. All writers of a store must have the same.
    pub grace: Duration,
    /// How often a waiter looks for what other processes committed: 20 ms.
    pub look_every: Duration,
    /// The clocks of a writer.
    pub clocks: Clocks,
    connection: ConnectionString,
    password: Option<String>,
}

/// Who connects, and with which keys, is not shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("database", &self.database)
            .field("timeout", &self.timeout)
            .field("connections_max", &self.connections_max)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

const OPENING: &str = "opening a store";
/// What is handed on to the driver. What else it knows would change what a store rests on.
const OPTIONS: [&str; 9] = [
    "authSource",
    "authMechanism",
    "replicaSet",
    "directConnection",
    "tls",
    "tlsCAFile",
    "tlsCertificateKeyFile",
    "appName",
    "heartbeatFrequencyMS",
];

fn invalid(advice: impl Into<String>) -> Error {
    // Nothing of the URL itself: where it cannot be read, nobody knows which part is secret.
    Error::new(ErrorKind::Invalid, OPENING).advise(advice)
}

impl Settings {
    /// Reads a URL: `mongodb://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`. A password that is not in it comes from the file that
    /// `password_file` names, or from `MONGODB_PASSWORD`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it cannot be read; the error shows nothing of it.
    pub fn parse(url: &str) -> Result<Self> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        if place.starts_with("mongodb+srv:") {
            return Err(invalid(
                "This build does not look hosts up in DNS: name them, mongodb://HOST:PORT,HOST:PORT",
            ));
        }
        let hosts = place
            .strip_prefix("mongodb://")
            .ok_or_else(|| invalid("A MongoDB store is named mongodb://HOST:PORT/DATABASE"))?;
        let mut ours = Ours { timeout: Duration::from_secs(10), connections_max: 16, password: None };
        let mut theirs = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if OPTIONS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                theirs.push(option);
            } else {
                ours.take(name, value)?;
            }
        }
        // The driver wants the slash before the options.
        let slash = if hosts.contains('/') { "" } else { "/" };
        let connection = ConnectionString::parse(format!("{place}{slash}?{}", theirs.join("&")));
        // What it says may hold a part of a secret.
        let connection =
            connection.map_err(|_| invalid("The hosts, the user or an option of the URL cannot be read"))?;
        let database = connection.default_database.clone().unwrap_or_else(|| "icecore".to_owned());
        let from_environment = || std::env::var("MONGODB_PASSWORD").ok().filter(|found| !found.is_empty());
        Ok(Self {
            database,
            timeout: ours.timeout,
            connections_max: ours.connections_max,
            grace: Duration::from_secs(60 * 60),
            look_every: Duration::from_millis(20),
            clocks: Clocks::default(),
            connection,
            password: ours.password.or_else(from_environment),
        })
    }

    /// Whether what was seen then may have been closed and deleted since.
    pub(crate) fn is_stale(&self, seen: Moment) -> bool {
        self.clocks.is_stale(seen, self.grace)
    }

    /// What the server knows our connections by.
    pub(crate) fn app_name(&self) -> &str {
        self.connection.app_name.as_deref().unwrap_or("icecore")
    }

    /// Every write waits for a majority, and for its journals.
    pub(crate) fn write_concern(&self) -> WriteConcern {
        let mut concern = WriteConcern::majority();
        concern.journal = Some(true);
        concern.w_timeout = Some(self.timeout);
        concern
    }

    /// Who is connected and how, for people.
    pub(crate) fn facts(&self, options: &ClientOptions) -> Vec<(&'static str, String)> {
        let user = options.credential.as_ref().and_then(|credential| credential.username.as_deref());
        let tls = if matches!(options.tls, Some(Tls::Enabled(_))) { "yes" } else { "no" };
        let connections_max = usize::try_from(self.connections_max).unwrap_or(usize::MAX);
        icecore_remote::connection_facts(user.unwrap_or("none"), tls, connections_max, self.timeout)
    }

    pub(crate) async fn client(&self) -> Result<ClientOptions> {
        let mut options = ClientOptions::parse(self.connection.clone())
            .await
            .map_err(|_| invalid("The hosts, or a file that the URL names, cannot be read"))?;
        options.max_pool_size = Some(self.connections_max);
        options.server_selection_timeout = Some(self.timeout);
        options.connect_timeout = Some(self.timeout);
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.read_concern = Some(ReadConcern::local());
        options.write_concern = Some(self.write_concern());
        // What is sent again is sent again here, where it is known that it was sent before.
        options.retry_writes = Some(false);
        options.app_name = Some(self.app_name().to_owned());
        if let Some(credential) = &mut options.credential
            && credential.password.is_none()
        {
            credential.password.clone_from(&self.password);
        }
        Ok(options)
    }
}

/// Options that are not the driver's.
struct Ours {
    timeout: Duration,
    connections_max: u32,
    password: Option<String>,
}

impl Ours {
    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "timeout_ms" => {
                self.timeout = Duration::from_millis(u64::from(number(name, value, 1, 600_000)?));
            }
            "connections_max" => self.connections_max = number(name, value, 2, 1_000)?,
            "password_file" => self.password = Some(password(value)?),
            _ => {
                return Err(invalid(format!(
                    "A MongoDB URL has no other options than timeout_ms, connections_max, password_file, {}",
                    OPTIONS.join(", ")
                )));
            }
        }
        Ok(())
    }
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| invalid(format!("{name} is between {least} and {most}")))
}

fn password(path: &str) -> Result<String> {
    let path = percent_decode_str(path).decode_utf8();
    let path = path.map_err(|_| invalid("A path stands in UTF-8"))?;
    let content = std::fs::read_to_string(&*path).map_err(|error| {
        Error::new(ErrorKind::Refused, OPENING)
            .because(error)
            .advise("A file that the URL names cannot be read as text")
    })?;
    Ok(content.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read() {
        let settings =
            Settings::parse("mongodb://ada:s%40@a:7,b/agents?replicaSet=rs&timeout_ms=70").unwrap();
        assert_eq!((&*settings.database, settings.timeout), ("agents", Duration::from_millis(70)));
        assert_eq!(Settings::parse("mongodb://db?connections_max=4").unwrap().connections_max, 4);
        assert_eq!(Settings::parse("mongodb://db").unwrap().database, "icecore");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_shows_nothing() {
        for url in [
            "mongodb:SECRET",
            "mongodb://",
            "mongodb://SECRET:x:y/z",
            "mongodb+srv://ada:SECRET@db/agents",
            "mongodb://a?w=1&x=SECRET",
            "mongodb://a?readPreference=secondary",
            "mongodb://a?journal=false",
            "mongodb://a?timeout_ms=SECRET",
            "mongodb://a?directConnection=SECRET",
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
            Settings::parse(&format!("mongodb://ada@db?password_file={}", file.path().display())).unwrap();

        assert_eq!(settings.password.as_deref(), Some("SECRET"));
        assert!(!format!("{settings:?}").contains("SECRET"));
    }
}
