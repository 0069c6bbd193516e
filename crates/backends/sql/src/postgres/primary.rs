//! Finds the primary among the servers that a URL names, and does not go back to one that was replaced.
//!
//! A promotion begins a new timeline, whose number is one higher. Of two servers of one system that both take writes, the one with
//! the lower number was replaced while nobody kept it from going on: it knows nothing of what was committed since. So whoever has
//! seen a timeline takes no connection to an earlier one of the same system, and where several servers are named, the one on the
//! latest is taken. What a server that was replaced acknowledges alone, PostgreSQL itself does not tell: that is the part of who
//! promotes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use icecore_log::{Durability, ErrorKind};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::Found;
use super::{fault, wire};
use crate::server::Done;
use crate::server::fault::{Fault, Meaning, Stage};

/// How long the one that was the primary is waited for; and, when one has said that it is, the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the primary, by all connections of a store.
#[derive(Debug, Default)]
pub(super) struct Primary {
    known: Mutex<Known>,
    /// Held by who looks for it.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Which of the servers it is; `None` if that is to be found out.
    place: Option<usize>,
    /// What it said about itself the last time.
    found: Option<Found>,
    /// The least that any promised that was written to.
    least: Option<Durability>,
}

/// A connection, and what the server said about itself.
struct Answer {
    connection: PgConnection,
    found: Found,
}

impl Primary {
    /// Connects to the primary. The only server that is named is taken at first even if it is a standby, so that it can be refused by name.
    pub async fn connect(&self, servers: &[PgConnectOptions]) -> Done<PgConnection> {
        if let Some(connection) = self.connect_as_before(servers).await {
            return Ok(connection);
        }
        let _looking = self.looking.lock().await;
        // Somebody may have found it meanwhile.
        match self.connect_as_before(servers).await {
            Some(connection) => Ok(connection),
            None => self.look_around(servers).await,
        }
    }

    /// Whoever was the primary may not be it any more: it is looked for again.
    pub fn suspect(&self) {
        self.known().place = None;
    }

    /// What the primary said about itself when it was connected to last.
    pub fn found(&self) -> Option<Found> {
        self.known().found.clone()
    }

    /// What every commit survives that was acknowledged since this was declared.
    pub fn durability(&self, declared: Durability) -> Durability {
        self.known().least.map_or(declared, |least| least.min(declared))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each critical section leaves its state whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect_as_before(&self, servers: &[PgConnectOptions]) -> Option<PgConnection> {
        let (place, known) = {
            let known = self.known();
            (known.place?, known.found.clone())
        };
        let answer = timeout(PATIENCE, ask(servers.get(place)?)).await.ok()?.ok()?;
        if answer.found.is_standby || known.is_some_and(|known| answer.found.is_before(&known)) {
            return None;
        }
        Some(self.take(place, answer))
    }

    async fn look_around(&self, servers: &[PgConnectOptions]) -> Done<PgConnection> {
        let asked = (0..).zip(servers).map(|(place, server)| async move { (place, ask(server).await) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut answers, mut faults): (Vec<(usize, Answer)>, Vec<Fault>) = (Vec::new(), Vec::new());
        let mut until = None;
        loop {
            let next = match until {
                Some(until) => timeout_at(until, asked.next()).await.unwrap_or_default(),
                None => asked.next().await,
            };
            match next {
                Some((place, Ok(answer))) => {
                    if !answer.found.is_standby {
                        until.get_or_insert(Instant::now() + PATIENCE);
                    }
                    answers.push((place, answer));
                }
                Some((_, Err(fault))) => faults.push(fault),
                None => break,
            }
        }
        if answers.is_empty() {
            return Err(worst(faults));
        }
        let known = self.found();
        let is_named_alone = servers.len() == 1 && known.is_none();
        let found: Vec<&Found> = answers.iter().map(|(_, answer)| &answer.found).collect();
        let chosen = if is_named_alone { 0 } else { choose(&found, known.as_ref())? };
        let (place, answer) = answers.swap_remove(chosen);
        Ok(self.take(place, answer))
    }

    fn take(&self, place: usize, mut answer: Answer) -> PgConnection {
        let mut known = self.known();
        // Only the first was asked before our sessions set it.
        if let Some(first) = &known.found {
            answer.found.synchronous_commit.clone_from(&first.synchronous_commit);
        }
        let durability = answer.found.durability();
        known.least = Some(known.least.map_or(durability, |least| least.min(durability)));
        (known.place, known.found) = (Some(place), Some(answer.found));
        answer.connection
    }
}

/// Connects to a server, and asks who it is.
async fn ask(server: &PgConnectOptions) -> Done<Answer> {
    let said = |error: sqlx::Error| fault::fault(&error, Stage::Before);
    let mut connection = PgConnection::connect_with(server).await.map_err(said)?;
    let mut row = sqlx::raw_sql(wire::WHO).fetch_one(&mut connection).await;
    // What only speaks as PostgreSQL does may not know about timelines.
    if row.as_ref().is_err_and(|error| error.as_database_error().is_some()) {
        row = sqlx::raw_sql(wire::WHO_ELSE).fetch_one(&mut connection).await;
    }
    let found = Found::of(&row.map_err(said)?)?;
    Ok(Answer { connection, found })
}

/// Of several servers that could not be connected to: what one has said is told rather than that another said nothing.
fn worst(mut faults: Vec<Fault>) -> Fault {
    let said = faults.iter().position(|fault| fault.code().is_some()).unwrap_or(0);
    if faults.is_empty() { Fault::late(Stage::Before) } else { faults.swap_remove(said) }
}

/// Which of these is the primary, for somebody who has seen one before.
fn choose(found: &[&Found], known: Option<&Found>) -> Done<usize> {
    let primaries: Vec<usize> = (0..found.len()).filter(|place| !found[*place].is_standby).collect();
    // Others may be there that never had this store.
    let is_known = |place: &usize| known.is_some_and(|known| found[*place].is_of(known));
    let of_known: Vec<usize> = primaries.iter().copied().filter(is_known).collect();
    let primaries = if of_known.is_empty() { primaries } else { of_known };
    let latest = primaries.iter().copied().max_by_key(|place| found[*place].timeline);
    let Some(latest) = latest else {
        return Err(nobody(
            "only standbys answer",
            "Standbys do not have what was just acknowledged: name the primary, or wait until one is promoted",
        ));
    };
    if known.is_some_and(|known| found[latest].is_before(known)) {
        return Err(nobody(
            "the server is on an earlier timeline than one that was seen",
            "It was replaced by a fail-over and has lost what was committed since: name the server that replaced it, and make this one its standby",
        ));
    }
    let rivals = |place: &&usize| {
        let rival = found[**place];
        !rival.is_of(found[latest])
            || (rival.timeline == found[latest].timeline && rival.started != found[latest].started)
    };
    if primaries.iter().any(|place| rivals(&place)) {
        return Err(nobody(
            "two servers say that they are the primary",
            "Neither is known to have all that was acknowledged: stop the one that should not be the primary",
        ));
    }
    Ok(latest)
}

fn nobody(message: &str, advice: &'static str) -> Fault {
    let meaning = (Meaning::Refused, ErrorKind::Unavailable, advice);
    Fault::new(meaning, message.to_owned(), None, Stage::Before)
}

impl Found {
    /// Whether both are of one system: one was copied from the other, or both from a third.
    fn is_of(&self, other: &Self) -> bool {
        self.system == other.system
    }

    /// Whether it was replaced by the other.
    fn is_before(&self, other: &Self) -> bool {
        self.is_of(other) && self.timeline < other.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a system, a timeline, started at some time.
    fn primary(system: &str, timeline: u32, started: &str) -> Found {
        Found {
            system: Some(system.to_owned()),
            timeline: Some(timeline),
            started: Some(started.to_owned()),
            ..Found::example()
        }
    }

    fn standby() -> Found {
        Found { is_standby: true, timeline: None, ..primary("a", 0, "1") }
    }

    fn chosen(found: &[Found], known: Option<&Found>) -> Result<usize, String> {
        choose(&found.iter().collect::<Vec<_>>(), known).map_err(|fault| fault.message().to_owned())
    }

    #[test]
    fn the_primary_is_the_one_on_the_latest_timeline() {
        let (old, new) = (primary("a", 1, "1"), primary("a", 2, "2"));
        assert_eq!(chosen(&[standby(), old.clone(), new.clone()], None), Ok(2));
        assert_eq!(chosen(&[new.clone(), old.clone()], Some(&old)), Ok(0));
        assert_eq!(chosen(&[old.clone(), standby()], Some(&old)), Ok(0));
        // One server under two names.
        assert_eq!(chosen(&[old.clone(), old.clone()], None).map(|place| place < 2), Ok(true));
        // A server that was made anew, and one that never had this store.
        assert_eq!(chosen(&[primary("b", 1, "9")], Some(&new)), Ok(0));
        assert_eq!(chosen(&[primary("b", 9, "9"), new.clone()], Some(&new)), Ok(1));
    }

    #[test]
    fn who_was_replaced_and_who_cannot_be_told_apart_is_not_taken() {
        let (old, new) = (primary("a", 1, "1"), primary("a", 2, "2"));
        assert!(chosen(&[old.clone(), standby()], Some(&new)).unwrap_err().contains("earlier timeline"));
        assert!(chosen(&[standby(), standby()], None).unwrap_err().contains("only standbys"));
        let other = primary("a", 2, "3");
        assert!(chosen(&[old, new.clone(), other], None).unwrap_err().contains("two servers"));
        assert!(chosen(&[primary("b", 2, "2"), new], None).unwrap_err().contains("two servers"));
    }
}
