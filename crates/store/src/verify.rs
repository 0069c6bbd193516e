//! Checks every byte that a store keeps: each log's chain from its first commit to its head, and what is below the waist.

use std::time::{Duration, Instant};

use futures_util::future::join;
use icecore_log::backend::Depth;
use icecore_log::{Error, ErrorKind, Head, LogId, LogPrefix, PageLimit, Result, Version};

use crate::chain::Chain;
use crate::{Log, Store, open, read};

/// What was checked, and what is damaged.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Logs read from their first commit to their head.
    pub logs: u64,
    /// Commits whose place in the chain was checked.
    pub commits: u64,
    /// Commits whose body was dropped: only their header could be checked.
    pub dropped: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of headers and bodies.
    pub bytes: u64,
    /// Each names the log and the version, or the file or row. Of kind `Unavailable` if it could not be read at all.
    pub damage: Vec<Error>,
}

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

impl Store {
    /// Reads everything under a prefix and checks it; for [`LogPrefix::all`] also every byte below the waist. Goes on behind what is damaged.
    ///
    /// # Errors
    /// Only what prevents checking; what is damaged is in [`Verified::damage`].
    pub async fn verify(&self, prefix: &LogPrefix, mut progress: impl FnMut(&Verified)) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut told = Instant::now();
        let mut tell = |verified: &Verified| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                progress(verified);
            }
        };
        let is_all = prefix.as_str().is_empty();
        let above = self.verify_logs(prefix, &mut verified, &mut tell);
        let below = async { if is_all { Some(self.0.backend.examine(Depth::Deep).await) } else { None } };
        // Side by side, and the look below begins first: a backend that never waits would not let it begin otherwise.
        let (below, above) = join(below, above).await;
        above?;
        if let Some(examination) = below.transpose()? {
            let known = std::mem::take(&mut verified.damage);
            let below = examination.damage;
            // One broken commit is seen from above and from below; the lower one names the file.
            let from_above =
                known.into_iter().filter(|error| !below.iter().any(|lower| is_same(lower, error)));
            verified.damage = from_above.chain(below.iter().cloned()).collect();
        }
        Ok(verified)
    }

    async fn verify_logs(
        &self,
        prefix: &LogPrefix,
        verified: &mut Verified,
        tell: &mut impl FnMut(&Verified),
    ) -> Result<()> {
        let mut cursor = None;
        loop {
            let page = self.logs(prefix, cursor, 1_000).await?;
            for id in page.logs {
                self.log(id).verify_into(verified, tell).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

fn is_same(lower: &Error, upper: &Error) -> bool {
    lower.fact("log").is_some()
        && lower.fact("log") == upper.fact("log")
        && lower.fact("version") == upper.fact("version")
}

impl Log {
    /// Checks this log alone.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub async fn verify(&self) -> Result<Verified> {
        let mut verified = Verified::default();
        self.verify_into(&mut verified, &mut |_| ()).await?;
        Ok(verified)
    }

    async fn verify_into(&self, verified: &mut Verified, tell: &mut impl FnMut(&Verified)) -> Result<()> {
        let (boundary, last, mut chain) = match self.raw_head().await {
            Ok(Some(head)) => (head.boundary, head.version, self.known_chain(&head, verified).await?),
            Ok(None) => return Ok(()),
            Err(error) => {
                // What is before a damaged head is checked all the same; where it begins, the first page says.
                let last = read::bad_version(&error).map_or(Version::ZERO, Version::previous);
                record(verified, error)?;
                (Version::ZERO, last, Chain::new(self.id.clone()))
            }
        };
        verified.logs += 1;
        let mut next = boundary.next();
        while next <= last {
            next = self.verify_page(next, last, &mut chain, verified).await?;
            tell(verified);
        }
        Ok(())
    }

    async fn known_chain(&self, head: &Head, verified: &mut Verified) -> Result<Chain> {
        let chain = match self.decode(head) {
            Ok(header) => self.chain(&header).await,
            Err(error) => Err(error),
        };
        chain.or_else(|error| {
            record(verified, error)?;
            Ok(Chain::new(self.id.clone()))
        })
    }

    /// Checks one page and says where the next begins.
    async fn verify_page(
        &self,
        from: Version,
        last: Version,
        chain: &mut Chain,
        verified: &mut Verified,
    ) -> Result<Version> {
        let left = usize::try_from(last.0 - from.0 + 1).unwrap_or(usize::MAX);
        let page = match read::good_page(self, from, PageLimit::WHOLE.commits(left)).await {
            Ok(page) => page,
            Err(error) => {
                chain.skip();
                record(verified, named(error, &self.id, from))?;
                return Ok(from.next());
            }
        };
        if page.commits.is_empty() {
            if page.boundary >= from {
                chain.skip();
                return Ok(page.boundary.next());
            }
            chain.skip();
            record(verified, open::damaged(&self.id, from, "a commit below the head is missing"))?;
            return Ok(from.next());
        }
        let mut next = from;
        for commit in &page.commits {
            // Opened to the last byte of its entries: what fits its hash may still be no entry.
            match chain.open(commit) {
                Ok((header, _)) => {
                    verified.commits += 1;
                    verified.dropped += u64::from(commit.body.is_none());
                    verified.events += header.events();
                    verified.bytes += commit.len() as u64;
                }
                Err(error) => {
                    chain.skip();
                    record(verified, error)?;
                }
            }
            next = commit.version.next();
        }
        Ok(next)
    }
}

/// Says of damage where it is, if what found it did not. Any other error names its commit itself, or is of the whole store.
fn named(error: Error, log: &LogId, version: Version) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let error = if error.fact("log").is_some() { error } else { error.with("log", log) };
    if error.fact("version").is_some() { error } else { error.with("version", version) }
}

/// Keeps damage, and a commit that cannot be read; anything else stops the checking.
fn record(verified: &mut Verified, error: Error) -> Result<()> {
    if error.kind() != ErrorKind::Corrupt && read::bad_version(&error).is_none() {
        return Err(error);
    }
    // A commit that holds the log's secret is met twice: when the log is opened, and when its turn comes.
    if !verified.damage.iter().rev().take(16).any(|known| is_same(known, &error)) {
        verified.damage.push(error);
    }
    Ok(())
}
