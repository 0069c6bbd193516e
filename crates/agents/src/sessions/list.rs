//! Pages of sessions, newest first: by when they were made.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use icecore_log::{Error, ErrorKind, Result};

use super::directory::{self, Directory, Entry, Seen};
use super::{Session, Sessions, Status};
use crate::scope::UserScope;

/// Whose sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All of the tenant.
    Tenant,
    /// One user's.
    User(UserScope),
}

/// Which of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Behind this cursor, which a page gave.
    pub after: Option<String>,
    /// At most so many: 50.
    pub limit: usize,
    /// Those that have ended as well, as long as they were not purged.
    pub ended: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self { after: None, limit: 50, ended: false }
    }
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SessionPage {
    /// The sessions, each with the cursor behind it.
    pub sessions: Vec<(String, Session)>,
    /// Where the next page begins; `None` if there is none. A page may have fewer than were asked for, and another may follow: so many that
    /// have ended were between.
    pub next: Option<String>,
}

/// So many entries that lead to nothing are passed over for a page, and as many more as it may have.
const PASSED_MAX: usize = 2_000;
/// The most entries that are looked at together.
const TOGETHER: usize = 500;

impl Sessions {
    /// One page. What is made meanwhile comes before it; so every session that is there throughout is on exactly one page.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the cursor is none; else as reading a log.
    pub async fn list(&self, of: &Of, query: &Query) -> Result<SessionPage> {
        if let Some(after) = &query.after
            && !directory::is_key(after)
        {
            return Err(Error::new(ErrorKind::Invalid, "listing sessions")
                .advise("The cursor is not of this listing: take what a page gave as the next"));
        }
        let directories = self.directories_of(of)?;
        let (mut page, mut passed) = (SessionPage::default(), 0);
        let mut walk = Walk::new(directories, query.after.clone());
        while page.sessions.len() < query.limit {
            let wanted = (query.limit - page.sessions.len()).min(TOGETHER);
            let entries = walk.next(wanted).await?;
            if entries.is_empty() {
                page.next = None;
                return Ok(page);
            }
            let seen = self.see(&entries).await?;
            for (entry, seen) in entries.into_iter().zip(seen) {
                page.next = Some(entry.key.clone());
                match seen {
                    Seen::Session(session, _) if query.ended || session.status == Status::Live => {
                        page.sessions.push((entry.key, session));
                    }
                    _ => passed += 1,
                }
            }
            if passed >= PASSED_MAX {
                break;
            }
        }
        if page.next.is_some() && walk.is_over().await? {
            page.next = None;
        }
        Ok(page)
    }

    pub(super) fn directories_of(&self, of: &Of) -> Result<Vec<Directory>> {
        match of {
            Of::Tenant => self.of_tenant(),
            Of::User(user) => Ok(vec![Directory::of_user(&self.store, self.has_user(user)?)?]),
        }
    }

    /// # Errors
    /// [`ErrorKind::Refused`] if it is another tenant's.
    pub(super) fn has_user<'a>(&self, user: &'a UserScope) -> Result<&'a UserScope> {
        if user.tenant() == self.tenant() {
            return Ok(user);
        }
        Err(Error::new(ErrorKind::Refused, "looking for a user's sessions")
            .advise("It is another tenant's user"))
    }
}

/// Entries of several directories, in order of their keys.
#[derive(Debug)]
pub(super) struct Walk {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    directory: Directory,
    after: Option<String>,
    ahead: VecDeque<Entry>,
    has_more: bool,
}

impl Walk {
    pub fn new(directories: Vec<Directory>, after: Option<String>) -> Self {
        let part =
            |directory| Part { directory, after: after.clone(), ahead: VecDeque::new(), has_more: true };
        Self { parts: directories.into_iter().map(part).collect() }
    }

    /// The next entries: as many, or all that are left.
    pub async fn next(&mut self, count: usize) -> Result<Vec<Entry>> {
        // They are spread evenly; so it is seldom that one has much more than its share.
        let share = count / self.parts.len().max(1);
        let ahead = share + share / 2 + 4;
        let mut entries = Vec::with_capacity(count.min(TOGETHER));
        while entries.len() < count {
            self.look_ahead(ahead).await?;
            let first = self.parts.iter_mut().filter(|part| !part.ahead.is_empty());
            let first = first.min_by(|one, other| one.ahead[0].key.cmp(&other.ahead[0].key));
            match first.and_then(|part| part.ahead.pop_front()) {
                Some(entry) => entries.push(entry),
                None => break,
            }
        }
        Ok(entries)
    }

    /// Whether there is nothing more.
    pub async fn is_over(&mut self) -> Result<bool> {
        self.look_ahead(1).await?;
        Ok(self.parts.iter().all(|part| part.ahead.is_empty()))
    }

    /// Whoever has nothing ahead gets some.
    async fn look_ahead(&mut self, count: usize) -> Result<()> {
        let is_empty = |part: &&mut Part| part.ahead.is_empty() && part.has_more;
        let looks = self.parts.iter_mut().filter(is_empty).map(|part| async {
            let (entries, has_more) = part.directory.page(part.after.as_deref(), count).await?;
            part.after = entries.last().map(|entry| entry.key.clone()).or(part.after.take());
            (part.ahead, part.has_more) = (entries.into(), has_more);
            Result::Ok(())
        });
        try_join_all(looks).await.map(drop)
    }
}
