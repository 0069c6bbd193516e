//! Consecutive pages of a log, each read while the caller is busy with the one before.

use icecore_log::{Page, PageLimit, Result, StoredCommit, Version};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Log;
use crate::read::good_page;

/// Reads ahead by one page, once a second page was asked for: most reads are of one.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: u32,
    ahead: Option<(Version, JoinHandle<Result<Page>>)>,
}

impl Pages {
    /// The page from a version on, which holds nothing behind `last`.
    pub(crate) async fn next(&mut self, log: &Log, from: Version, last: Version) -> Result<Page> {
        let page = match self.ahead.take() {
            Some((version, task)) if version == from => match task.await {
                Ok(page) => page?,
                // The runtime that it ran on has ended.
                Err(_) => read(log, from, last).await?,
            },
            other => {
                other.into_iter().for_each(|(_, task)| task.abort());
                read(log, from, last).await?
            }
        };
        self.pages = self.pages.saturating_add(1);
        if self.pages > 1
            && let Some(StoredCommit { version, .. }) = page.commits.last()
            && *version < last
            && let Ok(runtime) = Handle::try_current()
        {
            let (log, from) = (log.clone(), version.next());
            self.ahead = Some((from, runtime.spawn(async move { read(&log, from, last).await })));
        }
        Ok(page)
    }
}

async fn read(log: &Log, from: Version, last: Version) -> Result<Page> {
    let left = usize::try_from(last.0 - from.0 + 1).unwrap_or(usize::MAX);
    good_page(log, from, PageLimit::WHOLE.commits(left)).await
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.ahead.iter().for_each(|(_, task)| task.abort());
    }
}
