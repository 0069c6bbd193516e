//! What a server says about itself, what that promises, and what is refused.

use std::collections::HashMap;
use std::fmt;

use icecore_log::{Durability, Error, ErrorKind, Result};
use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::answer;
use crate::fault::Fault;
use crate::pool::Session;

const OPENING: &str = "opening a store";
/// The oldest server whose scripts and commands suffice.
const VERSION_MIN: u64 = 6;
/// The settings that are asked for; some servers let nobody.
const ASKED: [&str; 4] = ["maxmemory-policy", "appendonly", "appendfsync", "no-appendfsync-on-rewrite"];

/// What one server says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// From `INFO`.
    info: HashMap<String, String>,
    /// From `CONFIG GET`; without what it does not say.
    settings: HashMap<&'static str, String>,
    is_replica: bool,
}

impl Found {
    pub async fn look(session: &mut Session, deadline: Instant) -> std::result::Result<Self, Fault> {
        let mut ask = Pipeline::new();
        ask.cmd("INFO").cmd("ROLE");
        ASKED.iter().for_each(|name| {
            ask.cmd("CONFIG").arg("GET").arg(*name);
        });
        let mut answers = session.ask(&ask, deadline).await?.into_iter();
        let info = match answers.next() {
            Some(Value::ServerError(error)) => return Err(Fault::of(&error)),
            Some(Value::VerbatimString { text, .. }) => text,
            said => said.and_then(answer::text).unwrap_or_default(),
        };
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let info: HashMap<_, _> =
            lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let is_replica = answers.next().is_some_and(|role| answer::is_replica(&role))
            || info.get("role").is_some_and(|role| role == "slave");
        let value = |answer: Value| answer::list(answer)?.into_iter().nth(1).and_then(answer::text);
        let settings =
            ASKED.into_iter().zip(answers).filter_map(|(name, answer)| Some((name, value(answer)?)));
        Ok(Self { info, settings: settings.collect(), is_replica })
    }

    pub fn info(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Such as `7.0.15`, or `valkey 8.1.0`.
    pub fn version(&self) -> String {
        match self.info("valkey_version") {
            Some(version) => format!("valkey {version}"),
            None => self.info("redis_version").unwrap_or("unknown").to_owned(),
        }
    }

    fn policy(&self) -> Option<&str> {
        self.info("maxmemory_policy").or_else(|| self.setting("maxmemory-policy"))
    }

    /// Refuses a server on which nothing could be promised.
    pub fn check(&self, assume_noeviction: bool) -> Result<()> {
        let refused = || Error::new(ErrorKind::Refused, OPENING).with("redis", self.version());
        let major =
            self.info("redis_version").and_then(|version| version.split('.').next()?.parse::<u64>().ok());
        if major.is_some_and(|major| major < VERSION_MIN) {
            return Err(refused().advise("It is older than Redis 6"));
        }
        if self.is_replica {
            return Err(refused()
                .advise("It is a replica, which may lack what was just acknowledged: name the primary"));
        }
        match self.policy() {
            Some("noeviction") => Ok(()),
            None if assume_noeviction => Ok(()),
            None => Err(refused().advise(
                "It does not say whether it evicts keys: if its maxmemory-policy is noeviction, add assume_noeviction=true",
            )),
            Some(policy) => {
                let refused = refused().with("maxmemory_policy", policy);
                Err(if self.info("maxmemory") == Some("0") {
                    refused.advise(
                        "It would delete commits by itself as soon as anybody sets maxmemory: set maxmemory-policy to noeviction",
                    )
                } else {
                    refused.advise(
                        "It deletes commits by itself when its memory is full: set maxmemory-policy to noeviction",
                    )
                })
            }
        }
    }

    fn is_appending(&self) -> bool {
        self.setting("appendonly")
            .map_or_else(|| self.info("aof_enabled") == Some("1"), |found| found == "yes")
    }

    /// What an acknowledged commit survives on this server alone. What could not be read is not promised.
    pub fn durability(&self) -> Durability {
        match (self.is_appending(), self.setting("appendfsync"), self.setting("no-appendfsync-on-rewrite")) {
            // It ends itself before it answers what it could not write.
            (true, Some("always"), Some("no")) => Durability::Disk,
            // Written before it is answered, and not always synced.
            (true, Some("always"), _) => Durability::Machine,
            // With `everysec` an answer may come before the write, if the disk is slow; with `no` a write that fails is tried again later.
            _ => Durability::Process,
        }
    }

    /// Facts for people.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![("redis".to_owned(), self.version())];
        for name in ["redis_mode", "connected_slaves", "used_memory", "maxmemory"] {
            facts.extend(self.info(name).map(|value| (name.to_owned(), value.to_owned())));
        }
        facts.push(("maxmemory_policy".to_owned(), self.policy().unwrap_or("not to be asked").to_owned()));
        facts.push(("durability_found".to_owned(), self.to_string()));
        facts
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = |name| self.setting(name).unwrap_or("not to be asked");
        write!(
            f,
            "appendonly={} appendfsync={} no-appendfsync-on-rewrite={}",
            if self.is_appending() { "yes" } else { "no" },
            setting("appendfsync"),
            setting("no-appendfsync-on-rewrite")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &[(&str, &str)], settings: &[(&'static str, &str)]) -> Found {
        Found {
            info: info.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            settings: settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            is_replica: false,
        }
    }

    #[test]
    fn less_is_declared_where_less_holds_or_was_not_told() {
        let durability =
            |settings: &[(&'static str, &str)]| found(&[("aof_enabled", "1")], settings).durability();
        let no = ("no-appendfsync-on-rewrite", "no");
        assert_eq!(durability(&[("appendfsync", "always"), no]), Durability::Disk);
        assert_eq!(
            durability(&[("appendfsync", "always"), ("no-appendfsync-on-rewrite", "yes")]),
            Durability::Machine
        );
        assert_eq!(durability(&[("appendfsync", "everysec"), no]), Durability::Process);
        assert_eq!(durability(&[("appendfsync", "no"), no]), Durability::Process);
        assert_eq!(durability(&[]), Durability::Process);
        assert_eq!(durability(&[("appendonly", "no"), ("appendfsync", "always"), no]), Durability::Process);
        assert_eq!(found(&[], &[("appendfsync", "always"), no]).durability(), Durability::Process);
    }

    #[test]
    fn who_evicts_or_does_not_say_is_refused() {
        let check =
            |info: &[(&str, &str)], assume| found(info, &[]).check(assume).map_err(|error| error.kind());
        assert_eq!(check(&[("maxmemory_policy", "noeviction")], false), Ok(()));
        assert_eq!(check(&[], true), Ok(()));
        for (info, assume) in [
            (&[][..], false),
            (&[("maxmemory_policy", "allkeys-lru")], true),
            (&[("maxmemory_policy", "volatile-lru"), ("maxmemory", "0")], false),
            (&[("maxmemory_policy", "noeviction"), ("redis_version", "5.0.14")], false),
        ] {
            assert_eq!(check(info, assume), Err(ErrorKind::Refused), "{info:?}");
        }
    }
}
