//! `expire`, and when what is put or patched expires.

use std::process::ExitCode;
use std::time::Duration;

use icecore::log::SystemClock;
use icecore::{Changes, Clock, Condition, Error, ErrorKind, Expiry, LogId, Result, Store, Timestamp};

use crate::change::{self, How};
use crate::output::Output;
use crate::{input, time};

/// One of them at the most.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Expires {
    /// It is gone so long from now, such as 30m
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    ttl: Option<Duration>,
    /// It is gone from this time on, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    expires_at: Option<Timestamp>,
    /// It is gone so long after its last change, or touch
    #[arg(long, value_name = "LENGTH", value_parser = time::length)]
    sliding: Option<Duration>,
    /// It stays, also when its log expires
    #[arg(long)]
    pin: bool,
}

impl Expires {
    fn expiry(&self) -> Option<Expiry> {
        let from_now = |span| Expiry::At(SystemClock.now().after(span));
        let at = self.ttl.map(from_now).or(self.expires_at.map(Expiry::At));
        at.or(self.sliding.map(Expiry::Sliding)).or(self.pin.then_some(Expiry::Pinned))
    }

    /// What is said of a document behind its change, if anything is.
    pub fn add(&self, key: &str, changes: Changes) -> Changes {
        match self.expiry() {
            Some(expiry) => changes.expire(key, expiry),
            None => changes,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a key it is said of the whole log, which a pass of `icecore maintain` deletes once it is due; --sliding then counts from what was appended to it last. If there is no such document, that is an error (exit code 4).\n\nExamples:\n  icecore expire acme/session/s-1 --sliding 30m\n  icecore expire acme/session/s-1 cart --ttl 2h\n  icecore expire acme/session/s-1 cart --never"
)]
pub struct Args {
    /// The log: tenant/kind/key
    pub log: LogId,
    /// The document's key; without one, the whole log
    key: Option<String>,
    #[command(flatten)]
    expires: Expires,
    /// Nothing is said of it any more
    #[arg(long, conflicts_with_all = ["ttl", "expires_at", "sliding", "pin"])]
    never: bool,
    /// Renew a document that is sliding, as a change does
    #[arg(long, requires = "key", conflicts_with_all = ["ttl", "expires_at", "sliding", "pin", "never"])]
    touch: bool,
    #[command(flatten)]
    how: How,
}

impl Args {
    /// What is to be changed, before a store is opened.
    pub fn changes(&self) -> Result<Changes> {
        let expiry = self.expires.expiry();
        if expiry.is_none() && !self.never && !self.touch {
            return Err(Error::new(ErrorKind::Invalid, "setting an expiry")
                .advise("Say when: --ttl, --expires-at, --sliding, --pin, --never or --touch"));
        }
        let Some(key) = self.key.as_deref().map(input::key).transpose()? else {
            if expiry == Some(Expiry::Pinned) {
                return Err(Error::new(ErrorKind::Invalid, "setting an expiry").advise(
                    "Only a document is pinned: a log that has no expiry stays; --never takes one back",
                ));
            }
            return self.how.of("", Changes::new().expire_log(expiry));
        };
        let changes = Changes::new().only_if(Condition::Exists(key.to_owned()));
        let changes = if self.touch { changes.touch(key) } else { changes.expire(key, expiry) };
        self.how.of(key, changes)
    }
}

pub async fn run(args: &Args, changes: Changes, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let is_log = store.log(args.log.clone()).head().await?.is_some();
    let lack = args.key.clone().map(|key| Condition::Exists(key).to_string());
    let found_none = |error: &Error| {
        error.kind() == ErrorKind::Conflict && lack.is_some() && error.fact("failed") == lack.as_deref()
    };
    let none = |what: &str| {
        Error::new(ErrorKind::NotFound, "setting an expiry")
            .with("log", &args.log)
            .advise(format!("There is no such {what}: nothing was written"))
    };
    if !is_log {
        return Err(none("log"));
    }
    match change::run(&args.log, changes, store, output).await {
        Err(error) if found_none(&error) => Err(none("document in this log")),
        done => done,
    }
}
