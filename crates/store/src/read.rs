//! Reading a log's events by version and time, forward and backward, with the chain checked.

use icecore_log::{
    Entry, EntryId, Error, ErrorKind, Event, Hash, Head, Header, LogId, PageLimit, Result, Timestamp, Version,
};

use crate::chain::Chain;
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
}

#[derive(Debug)]
enum State {
    New,
    /// The next version, through the last one.
    Forward {
        next: Version,
        last: Version,
        chain: Box<Chain>,
    },
    /// The next version, down to the first one; the hash that the newer page names.
    Backward {
        next: Version,
        first: Version,
        name: Box<Chain>,
        expected: Option<Hash>,
    },
    Done,
}

/// How many commits one step backward reads.
const BACKWARD: u64 = 256;

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
            events: header.position + header.events(),
            boundary: head.boundary,
            sealed: header.flags.seal,
        }))
    }

    /// Reads commits; the range's end is fixed when the first page is read.
    pub fn read(&self, range: Range) -> Reader<'_> {
        Reader { log: self, range, state: State::New }
    }

    /// The last version whose commit was made at or before this time; `None` if all that is left is later.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log has no commit.
    pub async fn version_at(&self, time: Timestamp) -> Result<Option<Version>> {
        let head = self.existing_head().await?;
        // Commit times never go back, so the versions at or before `time` come first.
        let (mut low, mut high) = (head.boundary.0, head.version.0);
        while low < high {
            let middle = Version(low + (high - low).div_ceil(2));
            if self.header(middle).await?.at <= time {
                low = middle.0;
            } else {
                high = middle.0 - 1;
            }
        }
        Ok((low > head.boundary.0).then_some(Version(low)))
    }

    async fn header(&self, version: Version) -> Result<Header> {
        let page = self.store.0.backend.read(&self.id, version, PageLimit::HEADERS.commits(1)).await?;
        let Some(commit) = page.commits.into_iter().next() else {
            return Err(trimmed(&self.id, version, page.boundary));
        };
        Header::decode(commit.header).map_err(|error| error.with("log", &self.id).with("version", version))
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
    /// The next commits, in the direction of the range; none after the last.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log has no commit, or the range begins where it was trimmed;
    /// [`ErrorKind::Corrupt`], naming log and version, if a check fails.
    pub async fn next_page(&mut self) -> Result<Vec<RecordedCommit>> {
        if matches!(self.state, State::New) {
            self.state = self.start().await?;
        }
        let page = match &mut self.state {
            State::New | State::Done => return Ok(Vec::new()),
            State::Forward { next, last, chain } => forward(self.log, next, *last, chain).await?,
            State::Backward { next, first, name, expected } => {
                backward(self.log, next, *first, name, expected).await?
            }
        };
        if page.is_empty() {
            self.state = State::Done;
        }
        Ok(page)
    }

    async fn start(&self) -> Result<State> {
        let head = self.log.existing_head().await?;
        let first = self.range.from.unwrap_or(head.boundary.next()).max(Version::FIRST);
        if first <= head.boundary {
            return Err(trimmed(&self.log.id, first, head.boundary));
        }
        let last = self.range.to.unwrap_or(head.version).min(head.version);
        if first > last {
            return Ok(State::Done);
        }
        let chain = Box::new(self.log.chain(&self.log.decode(&head)?).await?);
        Ok(if self.range.reverse {
            State::Backward { next: last, first, name: chain, expected: None }
        } else {
            State::Forward { next: first, last, chain }
        })
    }
}

async fn forward(
    log: &Log,
    next: &mut Version,
    last: Version,
    chain: &mut Chain,
) -> Result<Vec<RecordedCommit>> {
    if *next > last {
        return Ok(Vec::new());
    }
    let limit = PageLimit::WHOLE.commits(usize::try_from(last.0 - next.0 + 1).unwrap_or(usize::MAX));
    let page = log.store.0.backend.read(&log.id, *next, limit).await?;
    if page.commits.is_empty() {
        return Err(if page.boundary >= *next {
            trimmed(&log.id, *next, page.boundary)
        } else {
            open::damaged(&log.id, *next, "a commit below the head is missing")
        });
    }
    let mut commits = Vec::with_capacity(page.commits.len());
    for stored in &page.commits {
        let (header, entries) = chain.open(stored)?;
        commits.push(RecordedCommit { version: stored.version, hash: stored.hash(), header, entries });
        *next = stored.version.next();
    }
    Ok(commits)
}

async fn backward(
    log: &Log,
    next: &mut Version,
    first: Version,
    name: &Chain,
    expected: &mut Option<Hash>,
) -> Result<Vec<RecordedCommit>> {
    if *next < first || *next == Version::ZERO {
        return Ok(Vec::new());
    }
    let low = Version(next.0.saturating_sub(BACKWARD - 1).max(first.0));
    let (mut from, mut chain, mut commits) = (low, name.clone(), Vec::new());
    while from <= *next {
        let page = forward(log, &mut from, *next, &mut chain).await?;
        commits.extend(page);
    }
    let newest = commits.last().map(|commit| commit.hash);
    if expected.is_some() && newest != *expected {
        return Err(open::damaged(&log.id, next.next(), "it does not follow the commit before"));
    }
    *expected = commits.first().map(|commit| commit.header.previous);
    *next = low.previous();
    commits.reverse();
    Ok(commits)
}

fn trimmed(log: &LogId, version: Version, boundary: Version) -> Error {
    Error::new(ErrorKind::NotFound, "reading a log")
        .with("log", log)
        .with("version", version)
        .with("trimmed_through", boundary)
        .advise("Its history was trimmed through that version: read from the next one")
}
