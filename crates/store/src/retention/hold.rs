//! Holds: reasons why history stays. A consumer that has not read so far yet, a backup, a dispute.
//!
//! A hold and a trim may come at the same time, from two processes. So a trim first says in the same log what it is about to take, on the
//! condition that no hold is against it; and a hold that is set against what is being taken waits until that is over, and then looks at
//! what is left. Whichever is first in that log is first.

use std::collections::BTreeSet;

use icecore_log::{Error, ErrorKind, LogId, LogPrefix, Result, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::retention::Retention;
use crate::state::{Changes, Document, Json, State};

/// Of which logs something is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// One.
    Log(LogId),
    /// All whose names begin so.
    Prefix(LogPrefix),
}

impl On {
    fn is_of(&self, log: &LogId) -> bool {
        match self {
            Self::Log(own) => own == log,
            Self::Prefix(prefix) => prefix.matches(log),
        }
    }
}

/// A reason why history stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Of which logs.
    pub on: On,
    /// From this version on; by default all that is left.
    pub from: Option<Version>,
    /// Through when: later it counts no more. By default until it is released.
    pub until: Option<Timestamp>,
    /// Why, for people.
    pub reason: String,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default)]
    from: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(default)]
    reason: String,
}

/// What is about to be taken of a log.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    /// Through here; all of it, if the log is to be deleted.
    pub through: u64,
    /// Only the bodies of commits of these kinds of events, if any are named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<String>,
    /// Only if the log still ends there, if that is said: nobody has used it since that was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
}

impl Intent {
    /// Of all through a version, or of the bodies of these kinds.
    pub fn of(through: Version, kinds: &BTreeSet<String>) -> Self {
        Self { through: through.0, kinds: kinds.clone(), head: None }
    }

    /// Of the whole log, whatever it is by then, or as long as it ends at this version.
    pub fn all(head: Option<Version>) -> Self {
        Self { through: u64::MAX, kinds: BTreeSet::new(), head: head.map(|head| head.0) }
    }

    pub fn is_all(&self) -> bool {
        self.through == u64::MAX && self.kinds.is_empty()
    }
}

const HOLDS: &str = "hold/";
const INTENTS: &str = "trim/";
const SWEEPS: &str = "sweep/";
/// The longest name of a hold, in bytes.
const NAME_BYTES_MAX: usize = 256;

impl Retention {
    /// Holds history under a name: from when this answers, nothing of it is trimmed. What was under that name is moved: a consumer that
    /// has read so far sets its hold anew.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if what is to be held was trimmed already: then what is left is held; or if the log was deleted.
    /// [`Invalid`](ErrorKind::Invalid) if the name is empty or has more than 256 bytes; else as [`Log::transact`](crate::Log::transact).
    pub async fn hold(&self, name: &str, hold: &Hold) -> Result<()> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(Error::new(ErrorKind::Invalid, "holding history")
                .with("name_bytes", name.len())
                .with("name_bytes_max", NAME_BYTES_MAX));
        }
        self.set(name, hold).await?;
        // What was taken before is seen by now; nothing was between.
        let On::Log(log) = &hold.on else { return Ok(()) };
        let of = self.log.store.log(log.clone());
        let Some(head) = of.raw_head().await? else { return Ok(()) };
        if let Err(deleted) = of.living(&head) {
            return Err(Error::new(ErrorKind::Refused, "holding history").because(deleted).with("log", log));
        }
        // Version 0 is all that is left, as none.
        if let Some(from) = hold.from.filter(|from| *from > Version::ZERO)
            && head.boundary >= from
        {
            let left = head.boundary.next();
            self.set(name, &Hold { from: Some(left), ..hold.clone() }).await?;
            return Err(Error::new(ErrorKind::Refused, "holding history")
                .with("log", log)
                .with("from", from)
                .with("trimmed_through", head.boundary)
                .advise("That is gone already: what is left is held"));
        }
        Ok(())
    }

    async fn set(&self, name: &str, hold: &Hold) -> Result<()> {
        let from = hold.from.unwrap_or(Version::ZERO);
        let json = Json::of(&Stored::of(hold))?;
        self.unless(
            |state| {
                let against =
                    |(log, intent): &(LogId, Intent)| hold.on.is_of(log) && from.0 <= intent.through;
                found(state, against)
            },
            |_| Ok(Changes::new().put(key(name), json.clone())),
        )
        .await
    }

    /// Makes changes once nothing is against them: what somebody began to take is taken first, since whoever began it may be gone.
    async fn unless(
        &self,
        against: impl Fn(&State) -> Result<Vec<(LogId, Intent)>>,
        mut changes: impl FnMut(&State) -> Result<Changes>,
    ) -> Result<()> {
        loop {
            let mut found = Vec::new();
            self.log
                .transact(|state| {
                    found = against(state)?;
                    if found.is_empty() { changes(state) } else { Ok(Changes::new()) }
                })
                .await?;
            if found.is_empty() {
                return Ok(());
            }
            for (log, intent) in found {
                self.finish(&log, &intent).await?;
            }
        }
    }

    /// Lets go what was held under a name; whether there was such a hold.
    ///
    /// # Errors
    /// As [`Log::transact`](crate::Log::transact).
    pub async fn release(&self, name: &str) -> Result<bool> {
        self.delete(&key(name)).await
    }

    /// Deletes a document; whether there was one.
    pub(super) async fn delete(&self, key: &str) -> Result<bool> {
        let delete = |state: &State| match state.get(key) {
            Some(_) => Changes::new().delete(key),
            None => Changes::new(),
        };
        Ok(self.log.transact(|state| Ok(delete(state))).await?.is_some())
    }

    /// Every hold with its name, in order of the names; also those whose time is over, which count no more.
    ///
    /// # Errors
    /// As [`Log::state`](crate::Log::state).
    pub async fn holds(&self) -> Result<Vec<(String, Hold)>> {
        holds(&*self.log.state().await?).collect()
    }

    /// Says what is about to be taken of a log.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if somebody holds it.
    pub(super) async fn begin(&self, log: &LogId, intent: &Intent) -> Result<()> {
        let others = |(of, other): &(LogId, Intent)| of == log && other != intent;
        self.unless(
            |state| found(state, others),
            |state| {
                self.check_in(state, log, intent)?;
                Ok(Changes::new().put(intent_key(log), Json::of(intent)?))
            },
        )
        .await
    }

    /// Whether anything that a log has through a version is held.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused), with the hold, if it is; else as [`Log::state`](crate::Log::state).
    pub async fn check_free(&self, log: &LogId, through: Version) -> Result<()> {
        self.check(log, &Intent::of(through, &BTreeSet::new())).await
    }

    /// Whether somebody holds what is to be taken now.
    ///
    /// # Errors
    /// As [`Retention::begin`].
    pub(super) async fn check(&self, log: &LogId, intent: &Intent) -> Result<()> {
        self.check_in(&*self.log.state().await?, log, intent)
    }

    fn check_in(&self, state: &State, log: &LogId, intent: &Intent) -> Result<()> {
        let now = self.log.store.now();
        for hold in holds(state) {
            let (name, hold) = hold?;
            if hold.is_against(log, intent, now) {
                return Err(held(log, &name, &hold));
            }
        }
        Ok(())
    }

    /// It was taken. Where what was closed is swept only after a time of grace, that is noted.
    pub(super) async fn end(&self, log: &LogId, intent: &Intent) -> Result<()> {
        let is_swept = self.log.store.0.capabilities.native_close || !intent.kinds.is_empty();
        let change = |state: &State| {
            let is_same = |found: &Document| found.read::<Intent>().is_ok_and(|other| other == *intent);
            if !state.get(&intent_key(log)).is_some_and(is_same) {
                return Ok(Changes::new());
            }
            let changes = Changes::new().delete(intent_key(log));
            let since = Json::of(&self.log.store.now().0)?;
            Ok(if is_swept { changes } else { changes.put(sweep_key(log), since) })
        };
        self.log.transact(change).await.map(drop)
    }

    /// What was closed and is still to be swept, and since when.
    pub(super) async fn to_sweep(&self) -> Result<Vec<(LogId, Timestamp)>> {
        let state = self.log.state().await?;
        let read = |(key, document): (&str, &Document)| {
            Some((LogId::parse(key.strip_prefix(SWEEPS)?).ok()?, Timestamp(document.read().ok()?)))
        };
        Ok(state.documents(SWEEPS).filter_map(read).collect())
    }

    /// It was swept, unless more was closed meanwhile: it is over, or counts as closed at another time.
    pub(super) async fn swept(&self, log: &LogId, since: Timestamp, left: Option<Timestamp>) -> Result<()> {
        let is_same = |state: &State| {
            state.get(&sweep_key(log)).is_some_and(|document| document.read::<i64>().ok() == Some(since.0))
        };
        let change = |state: &State| match left {
            _ if !is_same(state) => Ok(Changes::new()),
            Some(since) => Ok(Changes::new().put(sweep_key(log), Json::of(&since.0)?)),
            None => Ok(Changes::new().delete(sweep_key(log))),
        };
        self.log.transact(change).await.map(drop)
    }

    /// What somebody began to take, and may have left.
    pub(super) async fn begun(&self) -> Result<Vec<(LogId, Intent)>> {
        found(&*self.log.state().await?, |_| true)
    }

    /// Takes what was begun to be taken: it was decided then.
    pub(super) async fn finish(&self, log: &LogId, intent: &Intent) -> Result<()> {
        // Boxed, since a trim may have to finish another one first.
        Box::pin(self.log.store.log(log.clone()).take(intent)).await?;
        self.end(log, intent).await
    }
}

impl Hold {
    fn is_against(&self, log: &LogId, intent: &Intent, now: Timestamp) -> bool {
        let from = self.from.unwrap_or(Version::ZERO);
        self.on.is_of(log) && from.0 <= intent.through && self.until.is_none_or(|until| now <= until)
    }
}

impl Stored {
    fn of(hold: &Hold) -> Self {
        let (log, prefix) = match &hold.on {
            On::Log(log) => (Some(log.as_str().to_owned()), None),
            On::Prefix(prefix) => (None, Some(prefix.as_str().to_owned())),
        };
        let from = hold.from.unwrap_or(Version::ZERO).0;
        Self { log, prefix, from, until: hold.until.map(|until| until.0), reason: hold.reason.clone() }
    }

    fn read(self) -> Result<Hold> {
        let on = match (self.log, self.prefix) {
            (Some(log), None) => On::Log(LogId::parse(&log)?),
            (None, Some(prefix)) => On::Prefix(LogPrefix::parse(&prefix)?),
            _ => {
                return Err(Error::new(ErrorKind::Corrupt, "reading a hold").advise(
                    "It names neither a log nor a prefix: set it anew under its name, or release it",
                ));
            }
        };
        let from = (self.from > 0).then_some(Version(self.from));
        Ok(Hold { on, from, until: self.until.map(Timestamp), reason: self.reason })
    }
}

fn key(name: &str) -> String {
    format!("{HOLDS}{name}")
}

fn intent_key(log: &LogId) -> String {
    format!("{INTENTS}{log}")
}

fn sweep_key(log: &LogId) -> String {
    format!("{SWEEPS}{log}")
}

/// Whether it was refused because of a hold, or a reader.
pub(super) fn is_held(error: &Error) -> bool {
    error.kind() == ErrorKind::Refused
        && (error.fact("hold").is_some() || error.fact("needed_from").is_some())
}

fn holds(state: &State) -> impl Iterator<Item = Result<(String, Hold)>> {
    state.documents(HOLDS).map(|(key, document)| {
        let name = key.strip_prefix(HOLDS).unwrap_or(key).to_owned();
        // One that cannot be read must not be taken for none.
        let hold = document.read::<Stored>().and_then(Stored::read);
        hold.map(|hold| (name.clone(), hold)).map_err(|error| error.with("hold", name))
    })
}

/// What is being taken, as far as it is asked for.
fn found(state: &State, is_it: impl Fn(&(LogId, Intent)) -> bool) -> Result<Vec<(LogId, Intent)>> {
    let intents = state.documents(INTENTS).map(|(key, document)| {
        let log = LogId::parse(key.strip_prefix(INTENTS).unwrap_or(key));
        // One that cannot be read must not be taken for none: a hold would be promised what is just being taken.
        let intent = log.and_then(|log| Ok((log, document.read()?)));
        intent.map_err(|error| {
            Error::new(ErrorKind::Corrupt, "reading what is being trimmed")
                .because(error)
                .with("document", key)
                .advise("It does not say what is taken: write it anew, or delete it if nobody is trimming that log")
        })
    });
    intents.filter(|intent| intent.as_ref().map_or(true, &is_it)).collect()
}

fn held(log: &LogId, name: &str, hold: &Hold) -> Error {
    let error = Error::new(ErrorKind::Refused, "trimming a log").with("log", log).with("hold", name);
    let error = match hold.from {
        Some(from) => error.with("from", from),
        None => error,
    };
    error.with("reason", &hold.reason).advise("Its history is held: trim less, or release the hold")
}
