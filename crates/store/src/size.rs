//! How many bytes a log takes, told from its headers and the listing of its blobs: no body is read.

use futures_util::{StreamExt, TryStreamExt, stream};
use icecore_log::{Header, LogId, LogPrefix, PageLimit, Result, Timestamp, Version};

use crate::{Log, Store, open, read, snapshot};

/// How many logs are looked at at once.
const LOGS_AT_ONCE: usize = 16;

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

/// What a log takes, or several together, and how much of that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogGrowth {
    /// All that it takes.
    pub size: LogSize,
    /// Commits of that which were made since a time,
    pub new_commits: u64,
    /// and the bytes of their headers and bodies. A base that a trim made counts as new, too.
    pub new_bytes: u64,
}

impl LogGrowth {
    /// Adds another log's.
    pub fn add(&mut self, other: &Self) {
        self.size.add(&other.size);
        self.new_commits = self.new_commits.saturating_add(other.new_commits);
        self.new_bytes = self.new_bytes.saturating_add(other.new_bytes);
    }
}

impl Store {
    /// What each log takes whose name begins so, and how much of it is since that time, in no order. Every header is read.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn each_growth(
        &self,
        prefix: &LogPrefix,
        since: Timestamp,
        mut each: impl FnMut(LogId, LogGrowth),
    ) -> Result<()> {
        let mut cursor = None;
        loop {
            let page = self.logs(prefix, cursor, 1_000).await?;
            let growths = stream::iter(page.logs).map(|id| async move {
                let growth = self.log(id.clone()).growth(since).await?;
                Ok((id, growth))
            });
            let mut growths = growths.buffer_unordered(LOGS_AT_ONCE);
            while let Some((id, growth)) = growths.try_next().await? {
                each(id, growth);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

impl Log {
    /// How many bytes it takes; nothing, if there is no such log.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn size(&self) -> Result<LogSize> {
        self.growth(Timestamp(i64::MAX)).await.map(|growth| growth.size)
    }

    /// As [`Log::size`], and how much of that was committed since a time, by the times that commits have.
    ///
    /// # Errors
    /// As reading a log.
    pub async fn growth(&self, since: Timestamp) -> Result<LogGrowth> {
        let mut growth = LogGrowth::default();
        if let Some(head) = self.raw_head().await? {
            self.each_size(head.boundary.next(), head.version, |commit, header, body| {
                growth.size.commits += 1;
                growth.size.headers += header;
                growth.size.bodies = growth.size.bodies.saturating_add(body);
                if commit.at >= since {
                    growth.new_commits += 1;
                    growth.new_bytes = growth.new_bytes.saturating_add(header).saturating_add(body);
                }
            })
            .await?;
        }
        let size = &mut growth.size;
        for blob in self.store.0.backend.list_blobs(&self.id, "").await? {
            let kind =
                if blob.name.starts_with(snapshot::PREFIX) { &mut size.snapshots } else { &mut size.others };
            *kind = kind.saturating_add(blob.bytes);
        }
        Ok(growth)
    }

    /// Calls for each commit from one version to another that is left, with the bytes of its header, and of its body as the header says.
    pub(crate) async fn each_size(
        &self,
        from: Version,
        to: Version,
        mut each: impl FnMut(&Header, u64, u64),
    ) -> Result<()> {
        let mut next = from;
        while next <= to {
            let left = usize::try_from(to.0 - next.0 + 1).unwrap_or(usize::MAX);
            let page = read::good_page(self, next, PageLimit::HEADERS.commits(left)).await?;
            if page.commits.is_empty() {
                if page.boundary < next {
                    return Err(open::damaged(&self.id, next, "a commit below the head is missing"));
                }
                next = page.boundary.next();
            }
            for commit in page.commits {
                let bytes = commit.header.len() as u64;
                let header = Header::decode(commit.header)
                    .map_err(|error| error.with("log", &self.id).with("version", commit.version))?;
                let body = header.frames().fold(0, |sum: u64, frame| sum.saturating_add(frame.length));
                each(&header, bytes, body);
                next = commit.version.next();
            }
        }
        Ok(())
    }
}
