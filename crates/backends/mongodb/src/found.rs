//! What the server says of itself, and what of it a store rests on.

use icecore_log::{Durability, Error, ErrorKind, Result};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use tokio::time::Instant;

use crate::fault::Fault;
use crate::place::again;

/// The oldest version that a store was made for: documents of the kind that it writes are measured and updated by the server since then.
const VERSION_LEAST: (u32, u32) = (4, 4);

#[derive(Debug, Clone)]
pub(crate) struct Found {
    version: String,
    set: Option<String>,
    /// Members that may become the primary: each of them votes.
    members: usize,
    is_router: bool,
    /// Of the storage engine: its name, and whether it keeps anything; `None` if the user may not ask.
    engine: Option<(String, bool)>,
}

async fn ask(database: &Database, command: Document, deadline: Instant) -> Result<Document, Fault> {
    again(deadline, || async { database.run_command(command.clone()).await }).await
}

impl Found {
    pub async fn look(client: &Client, deadline: Instant) -> Result<Self, Fault> {
        let admin = client.database("admin");
        let hello = ask(&admin, doc! {"hello": 1}, deadline).await?;
        let built = ask(&admin, doc! {"buildInfo": 1}, deadline).await?;
        // Few users may ask for this.
        let only = doc! {"serverStatus": 1, "metrics": 0, "locks": 0, "wiredTiger": 0, "tcmalloc": 0};
        let status = ask(&admin, only, deadline).await.ok();
        let engine = status.as_ref().and_then(|status| status.get_document("storageEngine").ok());
        let engine = engine.and_then(|engine| {
            Some((engine.get_str("name").ok()?.to_owned(), engine.get_bool("persistent").ok()?))
        });
        Ok(Self {
            version: built.get_str("version").unwrap_or_default().to_owned(),
            set: hello.get_str("setName").ok().map(str::to_owned),
            members: hello.get_array("hosts").map_or(1, Vec::len),
            is_router: hello.get_str("msg").is_ok_and(|message| message == "isdbgrid"),
            engine,
        })
    }

    /// # Errors
    /// [`ErrorKind::Refused`] if a store would rest on what the server does not do, or what was never tried.
    pub fn check(&self) -> Result<()> {
        let refused = Error::new(ErrorKind::Refused, "opening a store").with("version", &self.version);
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < VERSION_LEAST {
            return Err(refused.advise("MongoDB 4.4 or later is needed"));
        }
        if self.is_router {
            return Err(refused.advise(
                "This is the router of a sharded cluster, on which nothing was tried: name a replica set",
            ));
        }
        Ok(())
    }

    pub fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// What survives once a majority has it in its journals.
    pub fn durability(&self) -> Durability {
        match &self.engine {
            // Also on several machines: a loss of power everywhere takes all of it.
            Some((_, false)) => Durability::Process,
            _ if self.members >= 2 => Durability::Replicated,
            _ => Durability::Disk,
        }
    }

    pub fn facts(&self) -> Vec<(String, String)> {
        let topology = match &self.set {
            None => "one server, without a replica set: no transactions".to_owned(),
            Some(set) => format!("replica set {set}, {} members that may be the primary", self.members),
        };
        let engine = match &self.engine {
            None => "not told: the user may not ask for serverStatus".to_owned(),
            Some((name, true)) => name.clone(),
            Some((name, false)) => format!("{name}, which keeps nothing"),
        };
        let acknowledged = match (self.is_set(), self.members) {
            (true, members) if members >= 2 => "when a majority has it in its journals",
            _ => "when the server has it in its journal",
        };
        [
            ("mongodb", self.version.clone()),
            ("topology", topology),
            ("engine", engine),
            ("acknowledged", acknowledged.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: &str, members: usize, keeps: bool) -> Found {
        let engine = Some(("engine".to_owned(), keeps));
        Found { version: version.to_owned(), set: None, members, is_router: false, engine }
    }

    #[test]
    fn what_was_never_tried_is_refused() {
        assert!(found("4.4.0", 1, true).check().is_ok() && found("10.0.1", 1, true).check().is_ok());
        for version in ["4.2.24", "3.6.1", "", "x"] {
            assert_eq!(found(version, 1, true).check().unwrap_err().kind(), ErrorKind::Refused, "{version}");
        }
        let router = Found { is_router: true, ..found("6.0.5", 1, true) };
        assert_eq!(router.check().unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn no_more_is_declared_than_the_members_give() {
        let durability = |members, keeps| found("6.0.5", members, keeps).durability();
        assert_eq!([durability(1, true), durability(3, true)], [Durability::Disk, Durability::Replicated]);
        assert_eq!([durability(1, false), durability(3, false)], [Durability::Process; 2]);
    }
}
