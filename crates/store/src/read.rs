//! Reading a log's events by version and time, forward and backward, with the chain checked.

use std::collections::VecDeque;

use icecore_log::{
    Entry, EntryId, Error, ErrorKind, Event, Hash, Head, Header, LogId, Page, PageLimit, Result,
    StoredCommit, Timestamp, Version,
};

use crate::chain::{self, Chain};
use crate::pages::Pages;
use crate::retention::running::Reading;
use crate::{Log, open};

/// Which part of a log to read, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// From this version; by default from the first that was not trimmed.
    pub from: Option<Version>,
    /// Through this version; by default through the head at the start of the reading.
    pub to: Option<Version>,
    /// Newest first.
    pub reverse: bool,
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// The last commit's number.
    pub version: Version,
    /// Its hash: with the log's name and version a token of all that went before.
    pub hash: Hash,
    /// When it was made.
    pub at: Timestamp,
    /// How many events the log has had.
    pub events: u64,
    /// Through where the log may have been trimmed; zero if it was not.
    pub boundary: Version,
    /// Whether it was deleted or moved.
    pub sealed: bool,
}

/// A commit that was read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCommit {
    /// Its number.
    pub version: Version,
    /// Its hash.
    pub hash: Hash,
    /// Its header.
    pub header: Header,
    /// Its entries; `None` if the body was dropped.
    pub entries: Option<Vec<Entry>>,
}

/// An event, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The commit.
    pub version: Version,
    /// Which event of the commit it is, from 0.
    pub index: u32,
    /// The id of its entry.
    pub id: Option<EntryId>,
    /// When it happened: what the caller said, or else when it was committed.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
}

impl RecordedCommit {
    /// The events of all entries, in order; none if the body was dropped.
    pub fn into_events(self) -> impl DoubleEndedIterator<Item = RecordedEvent> {
        let (version, at) = (self.version, self.header.at);
        let events: Vec<_> = self
            .entries
            .unwrap_or_default()
            .into_iter()
            .flat_map(|entry| entry.events.into_iter().map(move |event| (entry.id.clone(), event)))
            .collect();
        events.into_iter().enumerate().map(move |(index, (id, event))| RecordedEvent {
            version,
            // An entry has at most 65,536 events, a commit at most 2,048 entries.
            index: index as u32,
            id,
            at: event.at.unwrap_or(at),
            event,
        })
    }
}

/// Reads a log page by page. Made by [`Log::read`].
#[derive(Debug)]
pub struct Reader<'a> {
    log: &'a Log,
    range: Range,
    state: State,
    /// While it is on its way: it is not trimmed from under it by this process.
    reading: Option<Reading>,
}

#[derive(Debug)]
enum State {
    New,
    Forward(Forward),
    Backward(Box<Backward>),
    Done,
}

/// The most bytes of events that a page holds, unless a single commit has more. Stored bytes do not bound it: a few
/// kilobytes of them may be 64 MiB of events.
const OPENED_BYTES_MAX: usize = 4 << 20;

/// How many commits one step backward reads at the most.
const BACKWARD_MAX: u64 = 256;

impl Log {
    /// Where the log ends; `None` if it has no commit.
    pub async fn head(&self) -> Result<Option<LogHead>> {
        let Some(head) = self.raw_head().await? else {
            return Ok(None);
        };
        let header = self.decode(&head)?;
        Ok(Some(LogHead {
            version: head.version,
            hash: head.hash(),
            at: header.at,
            events: chain::position_behind(&header)
                .map_err(|error| error.with("log", &self.id).with("version", head.version))?,
            boundary: head.boundary,
            sealed: header.flags.seal,
        }))
    }

    /// Reads commits; the range's end is fixed when the first page is read.
    pub fn read(&self, range: Range) -> Reader<'_> {
        Reader { log: self, range, state: State::New, reading: None }
    }

    /// As [`Log::read`], of a log whose head was just read.
    pub(crate) async fn read_behind(&self, head: &Head, range: Range) -> Result<Reader<'_>> {
        let mut reader = self.read(range);
        reader.state = reader.start(head).await?;
        Ok(reader)
    }

    /// The last version whose commit was made at or before this time; `None` if all that is left is later.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log has no commit.
    pub async fn version_at(&self, time: Timestamp) -> Result<Option<Version>> {
        let head = self.existing_head().await?;
        // Commit times never go back, so the versions at or before `time` come first.
        let (mut boundary, mut low, mut high) = (head.boundary.0, head.boundary.0, head.version.0);
        while low < high {
            let middle = Version(low + (high - low).div_ceil(2));
            let page = self.store.0.backend.read(&self.id, middle, PageLimit::HEADERS.commits(1)).await?;
            let Some(commit) = page.commits.into_iter().next() else {
                if page.boundary < middle {
                    return Err(open::damaged(&self.id, middle, "a commit below the head is missing"));
                }
                // A trim passed us: what it took is no answer any more, and what it left is searched on.
                (boundary, low) = (page.boundary.0, page.boundary.0);
                continue;
            };
            let header = Header::decode(commit.header)
                .map_err(|error| error.with("log", &self.id).with("version", middle))?;
            if header.at <= time {
                low = middle.0;
            } else {
                high = middle.0 - 1;
            }
        }
        Ok((low > boundary).then_some(Version(low)))
    }

    pub(crate) async fn raw_head(&self) -> Result<Option<Head>> {
        Ok(self.store.0.backend.heads(std::slice::from_ref(&self.id)).await?.pop().flatten())
    }

    async fn existing_head(&self) -> Result<Head> {
        self.raw_head().await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "reading a log")
                .with("log", &self.id)
                .advise("No such log has a commit")
        })
    }

    pub(crate) fn decode(&self, head: &Head) -> Result<Header> {
        Header::decode(head.header.clone())
            .map_err(|error| error.with("log", &self.id).with("version", head.version))
    }

    /// A chain that knows commits of this log from those of others.
    pub(crate) async fn chain(&self, head: &Header) -> Result<Chain> {
        let secret = open::secret(&self.store.0, &self.id, head).await?;
        Ok(Chain::with_secret(self.id.clone(), secret))
    }
}

impl Reader<'_> {
    pub(crate) fn log_id(&self) -> &LogId {
        &self.log.id
    }

    pub(crate) fn log(&self) -> &Log {
        self.log
    }

    pub(crate) fn is_reverse(&self) -> bool {
        self.range.reverse
    }

    /// The next commits, in the direction of the range; none after the last.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log has no commit, or the range begins where it was trimmed;
    /// [`ErrorKind::Corrupt`], naming log and version, if a check fails.
    pub async fn next_page(&mut self) -> Result<Vec<RecordedCommit>> {
        if matches!(self.state, State::New) {
            let head = self.log.existing_head().await?;
            let first = self.first(&head);
            self.reading = Some(Reading::begin(&self.log.store.0, &self.log.id, first));
            self.state = self.start(&head).await?;
        }
        let page = match &mut self.state {
            State::New | State::Done => return Ok(Vec::new()),
            State::Forward(forward) => forward.next_page(self.log).await?,
            State::Backward(backward) => backward.next_page(self.log).await?,
        };
        match page.last() {
            None => (self.state, self.reading) = (State::Done, None),
            Some(last) if !self.range.reverse => {
                self.reading.iter().for_each(|reading| reading.needs(last.version.next()));
            }
            Some(_) => {}
        }
        Ok(page)
    }

    fn first(&self, head: &Head) -> Version {
        self.range.from.unwrap_or(head.boundary.next()).max(Version::FIRST)
    }

    async fn start(&self, head: &Head) -> Result<State> {
        let first = self.first(head);
        if first <= head.boundary {
            return Err(trimmed(&self.log.id, first, head.boundary));
        }
        let last = self.range.to.unwrap_or(head.version).min(head.version);
        if first > last {
            return Ok(State::Done);
        }
        let chain = self.log.chain(&self.log.decode(head)?).await?;
        Ok(if self.range.reverse {
            State::Backward(Box::new(Backward { next: last, first, chain, newer: None, step: 1 }))
        } else {
            State::Forward(Forward::new(first, last, chain))
        })
    }
}

/// Reads one page that ends before the first commit that cannot be read, if there is a good one before it.
pub(crate) async fn good_page(log: &Log, from: Version, limit: PageLimit) -> Result<Page> {
    let backend = &log.store.0.backend;
    let error = match backend.read(&log.id, from, limit).await {
        Err(error) if limit.commits > 1 => error,
        page => return page,
    };
    let good = match bad_version(&error) {
        Some(version) => version.0.saturating_sub(from.0),
        // It does not say where: what is left is to go on one by one.
        None => u64::from(error.kind() == ErrorKind::Corrupt),
    };
    if good == 0 {
        return Err(error);
    }
    backend.read(&log.id, from, limit.commits(usize::try_from(good).unwrap_or(usize::MAX))).await
}

/// The commit that could not be read, if the error is of that commit alone.
pub(crate) fn bad_version(error: &Error) -> Option<Version> {
    let is_of_a_commit = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable);
    error.fact("version").filter(|_| is_of_a_commit)?.parse().ok().map(Version)
}

#[derive(Debug)]
struct Forward {
    next: Version,
    last: Version,
    chain: Chain,
    pages: Pages,
    /// Read and not yet opened.
    stored: VecDeque<StoredCommit>,
}

impl Forward {
    fn new(next: Version, last: Version, chain: Chain) -> Self {
        Self { next, last, chain, pages: Pages::default(), stored: VecDeque::new() }
    }

    /// The next commits. What is good before a damaged one is given first: the damage is still there at the next call.
    async fn next_page(&mut self, log: &Log) -> Result<Vec<RecordedCommit>> {
        if self.stored.is_empty() && self.next <= self.last {
            let page = self.pages.next(log, self.next, self.last).await?;
            if page.commits.is_empty() {
                return Err(if page.boundary >= self.next {
                    trimmed(&log.id, self.next, page.boundary)
                } else {
                    open::damaged(&log.id, self.next, "a commit below the head is missing")
                });
            }
            self.stored = page.commits.into();
        }
        let (mut commits, mut bytes) = (Vec::with_capacity(self.stored.len()), 0);
        while let Some(stored) = self.stored.front()
            && bytes < OPENED_BYTES_MAX
        {
            match self.chain.open(stored) {
                Ok((header, entries)) => {
                    bytes += opened_bytes(entries.as_deref());
                    self.next = stored.version.next();
                    commits.push(recorded(stored, header, entries));
                    self.stored.pop_front();
                }
                Err(error) if commits.is_empty() => {
                    // Looked at again by the next call: it may have been restored by then.
                    self.stored.clear();
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(commits)
    }
}

#[derive(Debug)]
struct Backward {
    next: Version,
    first: Version,
    /// Knows the log, and nothing of its commits.
    chain: Chain,
    /// The oldest commit of the page before: what is read next must come before it.
    newer: Option<RecordedCommit>,
    /// How many commits are read at once: one more time as many while they are small.
    step: u64,
}

impl Backward {
    async fn next_page(&mut self, log: &Log) -> Result<Vec<RecordedCommit>> {
        loop {
            if self.next < self.first || self.next == Version::ZERO {
                return Ok(Vec::new());
            }
            let low = Version(self.next.0.saturating_sub(self.step - 1).max(self.first.0));
            match self.block(log, low).await {
                Ok(Some(mut commits)) => {
                    self.step = (self.step * 2).min(BACKWARD_MAX);
                    self.newer =
                        commits.first().map(|oldest| RecordedCommit { entries: None, ..oldest.clone() });
                    self.next = low.previous();
                    commits.reverse();
                    return Ok(commits);
                }
                Ok(None) => self.step = (self.next.0 - low.0 + 1).div_ceil(2),
                // The good ones behind what cannot be read are given first, one by one.
                Err(_) if low < self.next => self.step = 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The commits from `low` to the next, in their order; `None` if they are too much to hold at once.
    async fn block(&self, log: &Log, low: Version) -> Result<Option<Vec<RecordedCommit>>> {
        let mut commits: Vec<RecordedCommit> = Vec::new();
        let mut block = Forward::new(low, self.next, self.chain.clone());
        let mut bytes = 0;
        while block.next <= self.next {
            if bytes >= OPENED_BYTES_MAX {
                return Ok(None);
            }
            for commit in block.next_page(log).await? {
                bytes += opened_bytes(commit.entries.as_deref());
                commits.push(commit);
            }
        }
        if let Some(newer) = &self.newer {
            block.chain.check_next(newer.version, &newer.header)?;
        }
        Ok(Some(commits))
    }
}

pub(crate) fn recorded(stored: &StoredCommit, header: Header, entries: Option<Vec<Entry>>) -> RecordedCommit {
    RecordedCommit { version: stored.version, hash: stored.hash(), header, entries }
}

/// About how much memory the entries take; what describes an event counts as a fixed amount.
fn opened_bytes(entries: Option<&[Entry]>) -> usize {
    let events = entries.unwrap_or_default().iter().flat_map(|entry| &entry.events);
    events.map(|event| event.data.len() + size_of::<Event>()).sum()
}

fn trimmed(log: &LogId, version: Version, boundary: Version) -> Error {
    Error::new(ErrorKind::NotFound, "reading a log")
        .with("log", log)
        .with("version", version)
        .with("trimmed_through", boundary)
        .advise("Its history was trimmed through that version: read from the next one")
}
