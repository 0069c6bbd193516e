//! What is due, found without reading every log: before anything is said to expire, that is noted in one of a few logs of Icecore's own,
//! under the stretch of time in which it will be due. Maintenance reads these from the front.
//!
//! A note may be of nothing, if whoever made it ended before it was used. So that no expiry is ever without one, a note stays for as long as
//! whoever made it may still be about to use it: it counts for a time, after which it is made again before the caller is answered.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use icecore_log::{Event, Hash, LogId, Result, Timestamp};
use tokio::time::Instant;

use crate::retention::maintain::{Maintained, Rate, Turn};
use crate::retention::policy::Applied;
use crate::retention::{SYSTEM, hold, is_deleted};
use crate::state::transact::Turns;
use crate::state::{Changes, Document, Expiry, Json, State, base, expiry};
use crate::{Log, Store, lock};

/// Over so many logs the notes are spread, so that writers do not meet in one.
const LOGS: u8 = 16;
/// What is due within so many seconds of each other is noted together, and looked at together once all of it is due.
const STRETCH_SECONDS: i64 = 600;
/// No note is taken away before it is so old, and none is relied on for longer than half of that: clocks may differ by the other half.
const GRACE: Duration = Duration::from_secs(600);
/// What cannot be removed now is looked at again after so long.
const LATER: Duration = Duration::from_secs(3_600);
/// So many notes are remembered, so that they need not be made again.
const REMEMBERED_MAX: usize = 4_096;
const NOTES_A_PAGE: usize = 256;
/// So many documents are removed in one commit.
const DOCUMENTS_A_COMMIT: usize = 1_000;

/// Through when a note counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    stretch: i64,
    until: Timestamp,
    /// The same, by a clock that never goes back.
    deadline: Instant,
}

/// Notes that this process made.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<HashMap<(LogId, i64), Noted>>);

impl Noted {
    fn counts(&self, now: Timestamp) -> bool {
        now < self.until && Instant::now() < self.deadline
    }
}

/// The stretch at whose end something is due that is due at this time.
fn stretch_of(due: Timestamp) -> i64 {
    due.0.max(0).div_euclid(STRETCH_SECONDS * 1_000_000_000).saturating_add(1)
}

fn end_of(stretch: i64) -> Timestamp {
    Timestamp(stretch.saturating_mul(STRETCH_SECONDS * 1_000_000_000))
}

fn key(stretch: i64, log: &LogId) -> String {
    format!("{stretch:010}/{log}")
}

fn parse(key: &str) -> Option<(i64, LogId)> {
    let (stretch, log) = key.split_once('/')?;
    Some((stretch.parse().ok()?, LogId::parse(log).ok()?))
}

impl Log {
    /// Notes when something of these events will be due, if anything is said of that, before they are appended. `known` is a note that was
    /// made for them before.
    ///
    /// # Errors
    /// As [`Log::append`]: nothing was appended to this log.
    pub(crate) async fn note_due(&self, events: &[Event], known: Option<Noted>) -> Result<Option<Noted>> {
        self.check_expiry(events)?;
        let now = self.store.now();
        let Some(due) = expiry::first_due(events, now) else { return Ok(None) };
        self.note_due_at(due, known).await.map(Some)
    }

    pub(crate) async fn note_due_at(&self, due: Timestamp, known: Option<Noted>) -> Result<Noted> {
        let (stretch, now) = (stretch_of(due), self.store.now());
        let notes = &self.store.0.notes;
        let remembered = || lock(&notes.0).get(&(self.id.clone(), stretch)).copied();
        let known = known.filter(|known| known.stretch == stretch).or_else(remembered);
        // Not one that counts for a moment only.
        if let Some(known) = known.filter(|known| known.counts(now.after(GRACE / 8))) {
            return Ok(known);
        }
        let began = Instant::now();
        let note = Changes::new().put(key(stretch, &self.id), Json::text("null")?);
        // Boxed, since it is an append on its way to an append.
        Box::pin(self.store.notes_of(&self.id)?.append_changes(&note)).await?;
        let until = now.after(GRACE).max(end_of(stretch)).before(GRACE / 2);
        let noted = Noted { stretch, until, deadline: began + until.since(now) };
        let mut remembered = lock(&notes.0);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, noted| noted.counts(now));
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
        }
        remembered.insert((self.id.clone(), stretch), noted);
        Ok(noted)
    }

    /// Makes a note again that may have been taken away by now, since what relies on it took long.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub(crate) async fn keep_noted(&self, noted: Option<Noted>) -> Result<()> {
        let Some(noted) = noted else { return Ok(()) };
        if !noted.counts(self.store.now()) {
            lock(&self.store.0.notes.0).remove(&(self.id.clone(), noted.stretch));
            self.note_due_at(end_of(noted.stretch).before(Duration::from_nanos(1)), None).await?;
        }
        Ok(())
    }
}

/// A note that is due.
struct Due {
    key: String,
    log: LogId,
    /// As it was read: whoever makes it again makes it another.
    document: Document,
}

impl Store {
    /// The log of the notes of a log.
    fn notes_of(&self, log: &LogId) -> Result<Log> {
        self.notes_at(Hash::of(log.as_str().as_bytes()).0[0] % LOGS)
    }

    fn notes_at(&self, number: u8) -> Result<Log> {
        Ok(self.log(LogId::new(SYSTEM, "icecore", &format!("due-{number:x}"))?))
    }

    /// Removes what is due; whether the turn is still ours. Without anything that expires, it costs a look at a few heads.
    pub(super) async fn remove_due(
        &self,
        turn: &mut Turn,
        done: &mut Maintained,
        rate: &mut Rate,
    ) -> Result<bool> {
        for log in self.notes_there().await? {
            let mut pages = Pages::of(log);
            while let Some(page) = pages.next().await? {
                let mut looked = Vec::new();
                for due in page {
                    if !turn.renew().await? {
                        return Ok(false);
                    }
                    rate.wait().await;
                    let again = self.remove_due_of(&due.log, done).await;
                    looked.push((due, again));
                }
                self.forget_notes(&pages.notes, &looked).await?;
            }
        }
        Ok(true)
    }

    /// What of the noted logs has expired, told log by log; nothing is removed.
    pub(super) async fn plan_due(&self, tell: &mut impl FnMut(&LogId, &Applied)) -> Result<()> {
        // A log is noted for each stretch in which something of it is due.
        let mut told = HashSet::new();
        for log in self.notes_there().await? {
            let mut pages = Pages::of(log);
            while let Some(page) = pages.next().await? {
                for due in page.iter().filter(|due| told.insert(due.log.clone())) {
                    let planned = self.plan_due_of(&due.log).await;
                    if let Some(applied) = planned.map_err(|error| error.with("log", &due.log))? {
                        tell(&due.log, &applied);
                    }
                }
            }
        }
        Ok(())
    }

    async fn plan_due_of(&self, id: &LogId) -> Result<Option<Applied>> {
        Ok(match self.log(id.clone()).expiring().await? {
            None => None,
            Some((state, true)) => {
                self.may_delete(id, Some(state.version)).await?.then_some(Applied::LogExpired)
            }
            Some((state, false)) => {
                let count = state.expired(self.now()).len() as u64;
                (count > 0).then_some(Applied::DocumentsExpired(count))
            }
        })
    }

    /// Those of the logs of notes that are there.
    async fn notes_there(&self) -> Result<Vec<Log>> {
        let logs = (0..LOGS).map(|number| self.notes_at(number)).collect::<Result<Vec<_>>>()?;
        let names: Vec<_> = logs.iter().map(|log| log.id().clone()).collect();
        let heads = self.0.backend.heads(&names).await?;
        Ok(logs.into_iter().zip(heads).filter(|(_, head)| head.is_some()).map(|(log, _)| log).collect())
    }

    /// Takes notes away that were looked at, unless somebody made them again meanwhile; and makes those of what is due later.
    async fn forget_notes(&self, notes: &Log, looked: &[(Due, Option<Timestamp>)]) -> Result<()> {
        let change = |state: &State| {
            let mut changes = Changes::new();
            for (Due { key: old, log, document }, again) in looked {
                let next = again.map(|due| key(stretch_of(due), log));
                if let Some(next) = next.as_ref().filter(|next| state.get(next).is_none()) {
                    changes = changes.put(next, Json::text("null")?);
                }
                let is_same = state.get(old).is_some_and(|found| found.version == document.version);
                if is_same && next.as_ref() != Some(old) {
                    changes = changes.delete(old);
                }
            }
            Ok(changes)
        };
        notes.transact(change).await.map(drop)
    }

    /// Removes what is due of a log; when it must be looked at again.
    async fn remove_due_of(&self, id: &LogId, done: &mut Maintained) -> Option<Timestamp> {
        let log = self.log(id.clone());
        match log.remove_due(done).await {
            Ok(again) => again,
            // Somebody else ended it meanwhile: nothing of it is due any more.
            Err(_) if log.has_ended().await => None,
            Err(error) => {
                if hold::is_held(&error) {
                    done.held += 1;
                } else {
                    done.fail(error.with("log", id));
                }
                Some(self.now().after(LATER))
            }
        }
    }
}

/// The notes of one log that are due, page by page, from the front.
struct Pages {
    notes: Log,
    after: Option<String>,
    is_done: bool,
}

impl Pages {
    fn of(notes: Log) -> Self {
        Self { notes, after: None, is_done: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<Due>>> {
        if self.is_done {
            return Ok(None);
        }
        let page = self.notes.documents("", self.after.as_deref(), NOTES_A_PAGE).await?;
        let now = self.notes.store.now();
        self.after = page.documents.last().map(|(key, _)| key.clone());
        let last = self.after.as_deref().and_then(parse);
        self.is_done = !page.has_more || last.is_some_and(|(stretch, _)| end_of(stretch) > now);
        let due = page.documents.into_iter().filter_map(|(key, document)| Due::of(key, document, now));
        Ok(Some(due.collect()))
    }
}

impl Due {
    fn of(key: String, document: Document, now: Timestamp) -> Option<Self> {
        let (stretch, log) = parse(&key)?;
        let is_due = end_of(stretch) <= now && document.at.after(GRACE) <= now;
        is_due.then_some(Self { key, log, document })
    }
}

impl Log {
    /// The state of a log of which something expires, and whether all of it is due: then nothing in it is pinned.
    async fn expiring(&self) -> Result<Option<(Arc<State>, bool)>> {
        let Some(head) = self.raw_head().await? else { return Ok(None) };
        let header = self.decode(&head)?;
        if is_deleted(&header) || !header.flags.expires {
            return Ok(None);
        }
        let (state, now) = (self.fold_strong().await?.state, self.store.now());
        let is_due = state.life.due().is_some_and(|due| due <= now);
        let is_pinned = || state.documents("").any(|(_, document)| document.expiry == Some(Expiry::Pinned));
        let is_due = is_due && !is_pinned();
        Ok(Some((state, is_due)))
    }

    /// Ends the log if it is due, or else removes its documents that are; when it must be looked at again.
    async fn remove_due(&self, done: &mut Maintained) -> Result<Option<Timestamp>> {
        loop {
            let Some((state, is_due)) = self.expiring().await? else { return Ok(None) };
            if !is_due {
                break;
            }
            // Not if somebody uses it just now.
            if self.store.delete_log_at(&self.id, Some(state.version)).await?.is_some() {
                done.expired_logs += 1;
                return Ok(None);
            }
        }
        while let removed @ 1.. = self.remove_due_documents().await? {
            done.expired_documents += removed;
        }
        let (state, now) = (self.fold_strong().await?.state, self.store.now());
        let next = state.next_due(now);
        // What is pinned keeps the log; what comes to it, or is pinned no more, is due again.
        Ok(if state.life.due().is_some_and(|due| due <= now) { Some(now.after(LATER)) } else { next })
    }

    /// Whether the log has been deleted; if that cannot be told, it has not.
    async fn has_ended(&self) -> bool {
        let Ok(Some(head)) = self.raw_head().await else { return false };
        self.decode(&head).is_ok_and(|header| is_deleted(&header))
    }

    /// Removes some of the documents that are due, on the condition that nobody changes anything meanwhile; how many.
    async fn remove_due_documents(&self) -> Result<u64> {
        let active = self.store.0.active(&self.id);
        let mut turns = Turns::begin(self, &active).await?;
        loop {
            let state = turns.next().await?;
            let mut gone = state.expired(self.store.now());
            gone.truncate(DOCUMENTS_A_COMMIT);
            let Some(head) = self.raw_head().await?.filter(|_| !gone.is_empty()) else { return Ok(0) };
            if head.version != state.version {
                continue;
            }
            let count = gone.len();
            let changes = Changes::new().push(base::removed(count, self.last_used(&head).await?));
            let changes = gone.into_iter().fold(changes, Changes::delete);
            match self.enqueue_behind(&state, &changes).await?.receipt().await {
                Ok(_) => return Ok(count as u64),
                Err(error) if error.fact("expected").is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What is copied into another store is noted there.
///
/// # Errors
/// As [`Log::append`].
pub(crate) async fn note_copied(target: &Log) -> Result<()> {
    let now = target.store.now();
    target.note_due_at(now, None).await.map(drop)
}
