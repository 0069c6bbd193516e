//! How far a log may be trimmed, so that what is to be kept is kept.

use icecore_log::{Error, ErrorKind, Head, Result, Timestamp, Version};

use crate::Log;

/// What is kept of a log: what any of these keeps, and always the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// From this version on.
    pub from: Option<Version>,
    /// So many commits, the newest.
    pub commits: Option<u64>,
    /// What was committed at or after this time.
    pub since: Option<Timestamp>,
    /// So many bytes of headers and bodies, the newest; as many whole commits as these hold.
    pub bytes: Option<u64>,
}

impl Keep {
    /// Half as much: what a base should be behind, so that states go back at least so far.
    pub(super) fn half(&self, now: Timestamp) -> Self {
        Self {
            from: self.from,
            commits: self.commits.map(|commits| commits / 2),
            since: self.since.map(|since| Timestamp(since.0 + now.0.saturating_sub(since.0) / 2)),
            bytes: self.bytes.map(|bytes| bytes / 2),
        }
    }
}

impl Log {
    /// Through which version nothing is to be kept; at least the boundary, and below the head.
    pub(super) async fn expendable(&self, head: &Head, keep: &Keep) -> Result<Version> {
        if *keep == Keep::default() {
            return Err(Error::new(ErrorKind::Invalid, "trimming a log")
                .with("log", &self.id)
                .advise("Say what is kept: from a version or a time on, or how many commits or bytes"));
        }
        let mut through = head.version.previous();
        if let Some(from) = keep.from {
            through = through.min(from.previous());
        }
        if let Some(commits) = keep.commits {
            through = through.min(Version(head.version.0.saturating_sub(commits)));
        }
        if let Some(since) = keep.since {
            let before = self.version_at(Timestamp(since.0.saturating_sub(1))).await?;
            through = through.min(before.unwrap_or(head.boundary));
        }
        if let Some(bytes) = keep.bytes {
            through = through.min(self.behind_the_newest(head, bytes).await?);
        }
        Ok(through.max(head.boundary))
    }

    /// The last version that is not among the newest commits that so many bytes hold.
    async fn behind_the_newest(&self, head: &Head, bytes: u64) -> Result<Version> {
        loop {
            let (mut all, mut counted, mut passed) = (0_u64, 0_u64, 0_u64);
            self.each_size(head.boundary.next(), head.version, |_, header, body| {
                (all, counted) = (all.saturating_add(header).saturating_add(body), counted + 1);
            })
            .await?;
            let mut through = head.boundary;
            self.each_size(head.boundary.next(), head.version, |commit, header, body| {
                if all > bytes {
                    through = commit.version;
                }
                (all, passed) = (all.saturating_sub(header).saturating_sub(body), passed + 1);
            })
            .await?;
            // If somebody trimmed it meanwhile, what went was counted among what is kept.
            if passed == counted {
                return Ok(through.min(head.version.previous()));
            }
        }
    }
}
