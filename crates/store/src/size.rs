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
            self.each_size(head.boundary.next(), head.version, |_, header, body| {
                size.commits += 1;
                size.headers += header;
                size.bodies = size.bodies.saturating_add(body);
            })
            .await?;
        }
        for blob in self.store.0.backend.list_blobs(&self.id, "").await? {
            let kind =
                if blob.name.starts_with(snapshot::PREFIX) { &mut size.snapshots } else { &mut size.others };
            *kind = kind.saturating_add(blob.bytes);
        }
        Ok(size)
    }

    /// Calls for each commit from one version to another that is left, with the bytes of its header, and of its body as the header says.
    pub(crate) async fn each_size(
        &self,
        from: Version,
        to: Version,
        mut each: impl FnMut(Version, u64, u64),
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
                each(commit.version, bytes, body);
                next = commit.version.next();
            }
        }
        Ok(())
    }
}
