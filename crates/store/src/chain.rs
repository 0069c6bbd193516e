//! The checks that every read makes: each commit follows the one before, and its body is the one that its header commits to.

use bytes::Bytes;
use icecore_log::codec::Secret;
use icecore_log::{
    Entry, Error, ErrorKind, Hash, Header, Incarnation, LogId, Result, StoredCommit, Timestamp, Version,
};

/// What the next commit of a log must follow. Starts anywhere; the first commit fixes what is not known.
#[derive(Debug, Clone)]
pub struct Chain {
    log: LogId,
    last: Option<Last>,
    name_tag: Option<[u8; 16]>,
}

/// A commit, as far as the next one follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Last {
    pub version: Version,
    pub hash: Hash,
    /// How many events the log has through it.
    pub position: u64,
    pub at: Timestamp,
    pub incarnation: Incarnation,
    pub is_seal: bool,
}

impl Chain {
    /// The chain of a log, from wherever it is first read.
    pub fn new(log: LogId) -> Self {
        Self { log, last: None, name_tag: None }
    }

    /// The chain of a log whose secret is known: commits of another log are told from its own wherever reading starts.
    pub fn with_secret(log: LogId, secret: Secret) -> Self {
        Self { name_tag: Some(secret.name_tag(&log)), last: None, log }
    }

    /// The chain behind a commit of which this much is known; its name tag, if the secret did not say it.
    pub(crate) fn behind(mut self, last: Last, name_tag: [u8; 16]) -> Self {
        self.name_tag.get_or_insert(name_tag);
        self.last = Some(last);
        self
    }

    /// What the next commit must follow, and the log's name tag.
    pub(crate) fn last(&self) -> Option<(&Last, [u8; 16])> {
        self.last.as_ref().zip(self.name_tag)
    }

    /// The last commit's version and hash.
    pub fn head(&self) -> Option<(Version, Hash)> {
        self.last.as_ref().map(|last| (last.version, last.hash))
    }

    /// How many events the log has through the last commit.
    pub fn events(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.position)
    }

    /// Forgets what went before, to go on behind a damaged commit.
    pub fn skip(&mut self) {
        self.last = None;
    }

    /// Checks the next commit: its header against the commit before, its body, if it has one, against its header.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], naming log and version.
    pub fn check(&mut self, commit: &StoredCommit) -> Result<Header> {
        let header = self.check_header(commit)?;
        if let Some(body) = &commit.body {
            header
                .check_body(body)
                .and_then(|_| self.check_preamble(&header, body))
                .map_err(|error| self.name(error, commit))?;
        }
        self.follow(commit, &header);
        Ok(header)
    }

    /// As [`Chain::check`], and gives the entries; `None` if the body was dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], naming log and version.
    pub fn open(&mut self, commit: &StoredCommit) -> Result<(Header, Option<Vec<Entry>>)> {
        let header = self.check_header(commit)?;
        let entries = match &commit.body {
            None => None,
            Some(body) => {
                let entries = header.open_body(body).and_then(|entries| {
                    self.check_preamble(&header, body)?;
                    Ok(entries)
                });
                Some(entries.map_err(|error| self.name(error, commit))?)
            }
        };
        self.follow(commit, &header);
        Ok((header, entries))
    }

    fn check_header(&self, commit: &StoredCommit) -> Result<Header> {
        let header = Header::decode(commit.header.clone()).map_err(|error| self.name(error, commit))?;
        let wrong = |what: &'static str| Err(self.name(corrupt(what), commit));
        if header.version != commit.version {
            return wrong("it is in the slot of another version");
        }
        if self.name_tag.is_some_and(|tag| tag != header.name_tag) {
            return wrong("it belongs to another log");
        }
        if (header.version == Version::FIRST) != (header.previous == Hash::ZERO) {
            return wrong("only the first commit has no predecessor");
        }
        position_behind(&header).map_err(|error| self.name(error, commit))?;
        self.check_next(commit.version, &header)?;
        Ok(header)
    }

    /// Checks that a header follows the last commit, if that is known.
    pub(crate) fn check_next(&self, version: Version, header: &Header) -> Result<()> {
        let wrong = |what| Err(self.at(corrupt(what), version));
        let Some(last) = &self.last else {
            return Ok(());
        };
        if header.version != last.version.next() || header.previous != last.hash {
            return wrong("it does not follow the commit before");
        }
        if header.position != last.position || header.at < last.at || header.incarnation != last.incarnation {
            return wrong("its position, time or incarnation does not follow the commit before");
        }
        if last.is_seal {
            return wrong("it is behind the commit that ended the log");
        }
        Ok(())
    }

    fn check_preamble(&self, header: &Header, body: &Bytes) -> Result<()> {
        match header.open_preamble(body)? {
            Some(preamble) if preamble.name != self.log => Err(corrupt("it belongs to another log")),
            _ => Ok(()),
        }
    }

    fn follow(&mut self, commit: &StoredCommit, header: &Header) {
        self.name_tag = Some(header.name_tag);
        self.last = Some(Last {
            version: header.version,
            hash: commit.hash(),
            // Checked with the header.
            position: header.position.saturating_add(header.events()),
            at: header.at,
            incarnation: header.incarnation,
            is_seal: header.flags.seal,
        });
    }

    fn name(&self, error: Error, commit: &StoredCommit) -> Error {
        self.at(error, commit.version)
    }

    fn at(&self, error: Error, version: Version) -> Error {
        error.with("log", &self.log).with("version", version)
    }
}

/// How many events a log has through the commit of this header.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if no log can have so many.
pub(crate) fn position_behind(header: &Header) -> Result<u64> {
    header
        .position
        .checked_add(header.events())
        .ok_or_else(|| corrupt("it has more events before it than can be counted"))
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "checking a log").with("because", what)
}
