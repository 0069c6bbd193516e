//! How many bytes a log takes, told from its headers and the listing of its blobs: no body is read.

use icecore_log::{Header, PageLimit, Result, Version};

use crate::{Log, open, read, snapshot};

/// What a log takes, or several together, in bytes as they are handed to the storage system: what that adds of its own is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogSize {
    /// Commits that are left of it.
    pub commits: u64,
    /// Their headers.
    pub headers: u64,
    /// Their bodies, as the headers say; those that were dropped since are counted too.
    pub bodies: u64,
    /// Snapshots of its documents.
    pub snapshots: u64,
    /// All its other blobs, such as its id runs.
    pub others: u64,
}

impl LogSize {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        [self.headers, self.bodies, self.snapshots, self.others].into_iter().fold(0, u64::saturating_add)
    }

    /// Adds what another log takes.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.commits, other.commits),
            (&mut self.headers, other.headers),
            (&mut self.bodies, other.bodies),
            (&mut self.snapshots, other.snapshots),
            (&mut self.others, other.others),
        ];
        for (sum, bytes) in sums {
            *sum = sum.saturating_add(bytes);
        }
    }
}

impl Log {
    /// How many bytes it takes; nothing, if there is no such log.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn size(&self) -> Result<LogSize> {
        let mut size = LogSize::default();
        if let Some(head) = self.raw_head().await? {
            let mut next = head.boundary.next();
            while next <= head.version {
                next = self.add_page(next, head.version, &mut size).await?;
            }
        }
        for blob in self.store.0.backend.list_blobs(&self.id, "").await? {
            let kind =
                if blob.name.starts_with(snapshot::PREFIX) { &mut size.snapshots } else { &mut size.others };
            *kind = kind.saturating_add(blob.bytes);
        }
        Ok(size)
    }

    /// Adds one page of headers and says where the next begins.
    async fn add_page(&self, from: Version, last: Version, size: &mut LogSize) -> Result<Version> {
        let left = usize::try_from(last.0 - from.0 + 1).unwrap_or(usize::MAX);
        let page = read::good_page(
            self,
            from,
            PageLimit { commits: left.min(PageLimit::HEADERS.commits), ..PageLimit::HEADERS },
        )
        .await?;
        let Some(end) = page.commits.last().map(|commit| commit.version) else {
            if page.boundary >= from {
                return Ok(page.boundary.next());
            }
            return Err(open::damaged(&self.id, from, "a commit below the head is missing"));
        };
        for commit in page.commits {
            size.commits += 1;
            size.headers += commit.header.len() as u64;
            let header = Header::decode(commit.header)
                .map_err(|error| error.with("log", &self.id).with("version", commit.version))?;
            let frames = header.preamble.iter().chain(header.entries.iter().map(|entry| &entry.frame));
            size.bodies = frames.fold(size.bodies, |bytes, frame| bytes.saturating_add(frame.length));
        }
        Ok(end.next())
    }
}
