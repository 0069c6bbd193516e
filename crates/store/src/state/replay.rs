//! Folds a log from its commits alone, and compares that with what its snapshots say.

use std::time::{Duration, Instant};

use icecore_log::{Error, ErrorKind, Result, Version};

use crate::pages::Pages;
use crate::snapshot::{self, SnapshotInfo};
use crate::state::document::State;
use crate::state::fold::Folded;
use crate::state::layers::Layers;
use crate::{Log, open};

/// What a log's commits come to, and which of its snapshots say the same. Made by [`Log::replay`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Replayed {
    /// The last version.
    pub version: Version,
    /// Commits that were folded: from the newest base on, or else from the first.
    pub commits: u64,
    /// Documents at the last version.
    pub documents: u64,
    /// Snapshots that were compared with the commits.
    pub snapshots: u64,
    /// Snapshots that do not say what the commits say, or cannot be read: each names the version that it is of. What they cost is time; a
    /// store that writes makes new ones.
    pub damaged_snapshots: Vec<Error>,
    /// Whether what reads get, from snapshots, is what the commits come to.
    pub is_same: bool,
}

const TELL_EVERY: Duration = Duration::from_millis(100);

impl Log {
    /// Folds the log from its commits alone and compares that with each snapshot, and with the state that reads get.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the log has no commit, or commits that its state follows from are gone; as reading a log.
    pub async fn replay(&self, mut progress: impl FnMut(&Replayed)) -> Result<Replayed> {
        let Some(head) = self.raw_head().await? else {
            return Err(Error::new(ErrorKind::NotFound, "replaying a log")
                .with("log", &self.id)
                .advise("There is no such log"));
        };
        let header = self.decode(&head)?;
        let mut folded =
            Folded { chain: self.chain(&header).await?, ..Folded::before(&self.id, header.base) };
        let mut snapshots =
            snapshot::list(&self.store.0, &self.id, header.incarnation).await?.into_iter().peekable();
        let (mut replayed, mut pages, mut told) = (Replayed::default(), Pages::default(), Instant::now());
        while folded.state.version < head.version {
            let next = folded.state.version.next();
            for commit in &self.next_commits(&mut pages, next, head.version).await? {
                folded.take_up(&self.id, commit)?;
                replayed.commits += 1;
                // They are listed by the versions that they end at; those before the base are of no use any more.
                while let Some(info) = snapshots.next_if(|info| info.to <= folded.state.version) {
                    if info.to == folded.state.version {
                        self.compare(info, &folded.state, &mut replayed).await?;
                    }
                }
            }
            replayed.version = folded.state.version;
            if told.elapsed() >= TELL_EVERY {
                (told, _) = (Instant::now(), progress(&replayed));
            }
        }
        replayed.documents = folded.state.len() as u64;
        replayed.is_same = match self.fold_to(&head, head.version).await {
            Ok(read) => read.state == folded.state,
            Err(error) if error.kind() == ErrorKind::Corrupt => false,
            Err(error) => return Err(error),
        };
        Ok(replayed)
    }

    async fn compare(&self, info: SnapshotInfo, folded: &State, replayed: &mut Replayed) -> Result<()> {
        let version = info.to;
        let damaged = match Layers::up_to(&self.store.0, &self.id, info).await {
            Ok(Some(layers)) => match layers.state(&self.store.0).await {
                Ok(state) if state == *folded => None,
                Ok(_) => {
                    Some(open::damaged(&self.id, version, "a snapshot says something else than the commits"))
                }
                Err(error) => Some(error),
            },
            // Left over from a merge that took it in.
            Ok(None) => return Ok(()),
            Err(error) => Some(error),
        };
        match damaged {
            None => {}
            Some(error) if error.kind() == ErrorKind::Corrupt => replayed.damaged_snapshots.push(error),
            // Merged into another meanwhile.
            Some(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Some(error) => return Err(error),
        }
        replayed.snapshots += 1;
        Ok(())
    }
}
