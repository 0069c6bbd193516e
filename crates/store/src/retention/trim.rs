//! Making a log shorter. The boundary moves, and only behind a base: the state is known without what came before.

use std::collections::BTreeSet;
use std::time::Duration;

use icecore_log::{Error, ErrorKind, Head, PageLimit, Result, StoredCommit, Swept, Version};
use tokio::time::Instant;

use crate::Log;
use crate::chain::Chain;
use crate::retention::hold::Intent;
use crate::retention::{Keep, is_deleted, running};
use crate::snapshot;

/// What is to go of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trim {
    /// What is kept, whatever it is.
    pub keep: Keep,
    /// If any are named, only the bodies of commits that hold nothing but events of these kinds go; their headers stay, and the boundary
    /// stays where it is.
    pub kinds: BTreeSet<String>,
}

/// What became of a log, or would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Trimmed {
    /// Its last version before.
    pub head: Version,
    /// It had been trimmed through here,
    pub before: Version,
    /// and is now.
    pub through: Version,
    /// So many commits go, or so many bodies.
    pub commits: u64,
    /// Their bytes.
    pub bytes: u64,
    /// States are known from here on.
    pub states_from: Version,
    /// Whether a base is written for that.
    pub writes_base: bool,
    /// What was deleted at once; where a late writer is told by the clock, the rest follows with a later sweep.
    pub swept: Swept,
}

impl Log {
    /// What [`Log::trim`] would do now. Holds are not looked at.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such log, or it was deleted; else as reading a log.
    pub async fn plan_trim(&self, trim: &Trim) -> Result<Trimmed> {
        let head = self.head_to_trim().await?;
        let through = self.expendable(&head, &trim.keep).await?;
        self.planned(&head, through, trim).await
    }

    /// Takes away what is not to be kept. If the state does not stand on its own behind that, a base is written first.
    ///
    /// Events are there from the version behind the new boundary on; states from the oldest base that is left.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) if somebody holds what would go, or it is still being read by this process, or the state is larger
    /// than a base can be; [`NotFound`](ErrorKind::NotFound) if there is no such log; else as [`Log::append`].
    pub async fn trim(&self, trim: &Trim) -> Result<Trimmed> {
        let head = self.head_to_trim().await?;
        let through = self.expendable(&head, &trim.keep).await?;
        let planned = self.planned(&head, through, trim).await?;
        if planned.commits == 0 {
            return Ok(planned);
        }
        let retention = self.store.retention()?;
        let intent = Intent::of(through, &trim.kinds);
        // Looked at again when it is said what is to go: this only saves a base for nothing.
        retention.check(&self.id, &intent).await?;
        self.wait_for_readers(through).await?;
        if planned.writes_base {
            self.write_base().await?;
        }
        retention.begin(&self.id, &intent).await?;
        let swept = self.take(&intent).await?;
        retention.end(&self.id, &intent).await?;
        Ok(Trimmed { swept, ..planned })
    }

    /// What [`Log::trim_to_state`] would do now.
    ///
    /// # Errors
    /// As [`Log::trim_to_state`]: holds are looked at.
    pub async fn plan_trim_to_state(&self) -> Result<Trimmed> {
        let head = self.head_to_trim().await?;
        let is_base = self.decode(&head)?.flags.base;
        let through = if is_base { head.version.previous() } else { head.version };
        let planned = self.planned(&head, through.max(head.boundary), &Trim::default()).await?;
        if planned.commits > 0 {
            self.store.retention()?.check_free(&self.id, through).await?;
        }
        Ok(planned)
    }

    /// Takes away all that was, the last commit too: what is left are the documents as they are, in a base. What is appended while this
    /// runs may go with it, unless it is a change of documents. What is known of ids stays: an entry that is repeated is not there again.
    ///
    /// It may be interrupted anywhere and done again; of a log that has nothing else it does nothing.
    ///
    /// # Errors
    /// As [`Log::trim`].
    pub async fn trim_to_state(&self) -> Result<Trimmed> {
        let planned = self.plan_trim_to_state().await?;
        if planned.commits == 0 {
            return Ok(planned);
        }
        let from = if planned.writes_base { self.write_base().await?.version } else { planned.head };
        let keep = Keep { from: Some(from), ..Keep::default() };
        let trimmed = self.trim(&Trim { keep, ..Trim::default() }).await?;
        Ok(Trimmed { writes_base: planned.writes_base, ..trimmed })
    }

    async fn head_to_trim(&self) -> Result<Head> {
        let head = self.raw_head().await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "trimming a log")
                .with("log", &self.id)
                .advise("There is no such log")
        })?;
        self.living(&head)?;
        Ok(head)
    }

    async fn planned(&self, head: &Head, through: Version, trim: &Trim) -> Result<Trimmed> {
        let mut planned = Trimmed { head: head.version, before: head.boundary, ..Trimmed::default() };
        if trim.kinds.is_empty() {
            self.each_size(head.boundary.next(), through, |_, header, body| {
                (planned.commits, planned.bytes) = (planned.commits + 1, planned.bytes + header + body);
            })
            .await?;
            planned.through = through;
        } else {
            self.each_of_kinds(head, through, &trim.kinds, |commit| {
                let bytes = commit.body.as_ref().map_or(0, |body| body.len());
                (planned.commits, planned.bytes) = (planned.commits + 1, planned.bytes + bytes as u64);
            })
            .await?;
            planned.through = head.boundary;
        }
        planned.writes_base = planned.commits > 0 && self.decode(head)?.base <= through;
        planned.states_from = if planned.writes_base {
            head.version.next()
        } else {
            // Of some kinds bodies went, or will, and the boundary stays.
            let gone = if planned.commits > 0 { through } else { planned.through };
            self.base_behind(gone, head).await?
        };
        Ok(planned)
    }

    /// The oldest base behind a version: states are known from there on. Zero, if nothing was trimmed.
    pub(crate) async fn base_behind(&self, through: Version, head: &Head) -> Result<Version> {
        let newest = self.decode(head)?.base;
        if through == Version::ZERO {
            return Ok(Version::ZERO);
        }
        // Each header names the newest base at or before it: from there it is one step to the one before.
        let mut base = newest;
        while base > through.next() {
            let page =
                self.store.0.backend.read(&self.id, base.previous(), PageLimit::HEADERS.commits(1)).await?;
            let Some(commit) = page.commits.into_iter().next() else { break };
            let header =
                icecore_log::Header::decode(commit.header).map_err(|error| error.with("log", &self.id))?;
            if header.base <= through {
                break;
            }
            base = header.base;
        }
        Ok(base)
    }

    /// Waits for those that still read what would go.
    pub(super) async fn wait_for_readers(&self, through: Version) -> Result<()> {
        let deadline = Instant::now() + self.store.0.settings.readers_patience;
        loop {
            match running::needed(&self.store.0, &self.id).filter(|needed| *needed <= through) {
                None => return Ok(()),
                Some(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(needed) => {
                    return Err(Error::new(ErrorKind::Refused, "trimming a log")
                        .with("log", &self.id)
                        .with("needed_from", needed)
                        .advise("This process is still reading it: end the reader, or try again later"));
                }
            }
        }
    }

    /// Takes what was said to be taken. Interrupted anywhere, it can be done again.
    pub(super) async fn take(&self, intent: &Intent) -> Result<Swept> {
        if intent.is_all() {
            let sealed = self.seal_and_clear(intent.head.map(Version)).await?;
            return Ok(sealed.map_or_else(Swept::default, |(_, swept)| swept));
        }
        let Some(through) = self.behind_which_is_a_base(Version(intent.through)).await? else {
            return Ok(Swept::default());
        };
        if !intent.kinds.is_empty() {
            return self.drop_kinds(through, &intent.kinds).await;
        }
        // What is known of the ids of what goes is then in their runs.
        self.keep_ids(through).await?;
        let backend = &self.store.0.backend;
        backend.close(&self.id, through).await?;
        let swept = backend.sweep(&self.id).await?;
        if !self.clear_if_deleted().await? {
            self.delete_snapshots_before_the_base().await?;
        }
        Ok(swept)
    }

    /// As far of this as there is a base behind; `None` if the log is not there any more. A base was written before it was said what goes;
    /// but a fail-over may have lost it, and without one all would be lost.
    async fn behind_which_is_a_base(&self, through: Version) -> Result<Option<Version>> {
        let Some(head) = self.raw_head().await? else { return Ok(None) };
        let header = self.decode(&head)?;
        if is_deleted(&header) {
            return Ok(None);
        }
        let base = if header.base > through { header.base } else { self.write_base().await?.version };
        Ok(Some(through.min(base.previous())))
    }

    /// Snapshots that are behind no base any more: no state is made of them.
    async fn delete_snapshots_before_the_base(&self) -> Result<()> {
        let Some(head) = self.raw_head().await? else { return Ok(()) };
        let (inner, header) = (&self.store.0, self.decode(&head)?);
        let oldest = self.base_behind(head.boundary, &head).await?;
        for info in snapshot::list(inner, &self.id, header.incarnation).await? {
            if info.to < oldest {
                snapshot::delete(inner, &self.id, &info).await?;
            }
        }
        Ok(())
    }

    async fn drop_kinds(&self, through: Version, kinds: &BTreeSet<String>) -> Result<Swept> {
        let Some(head) = self.raw_head().await? else { return Ok(Swept::default()) };
        let (mut versions, mut swept) = (Vec::new(), Swept::default());
        self.each_of_kinds(&head, through, kinds, |commit| {
            versions.push(commit.version);
            swept.bytes += commit.body.as_ref().map_or(0, |body| body.len() as u64);
        })
        .await?;
        for some in versions.chunks(1_000) {
            self.store.0.backend.drop_bodies(&self.id, some).await?;
        }
        Ok(swept)
    }

    /// Calls for each commit through a version whose every event is of one of these kinds, and that has its body.
    async fn each_of_kinds(
        &self,
        head: &Head,
        through: Version,
        kinds: &BTreeSet<String>,
        mut each: impl FnMut(&StoredCommit),
    ) -> Result<()> {
        let mut chain = Chain::new(self.id.clone());
        let mut next = head.boundary.next();
        while next <= through {
            let left = usize::try_from(through.0 - next.0 + 1).unwrap_or(usize::MAX);
            let page = self.store.0.backend.read(&self.id, next, PageLimit::WHOLE.commits(left)).await?;
            if page.commits.is_empty() {
                if page.boundary < next {
                    return Err(crate::open::damaged(&self.id, next, "a commit below the head is missing"));
                }
                next = page.boundary.next();
                chain.skip();
            }
            for commit in &page.commits {
                let (header, entries) = chain.open(commit)?;
                let mut events = entries.iter().flatten().flat_map(|entry| &entry.events).peekable();
                if header.preamble.is_none()
                    && events.peek().is_some()
                    && events.all(|event| kinds.contains(&event.kind))
                {
                    each(commit);
                }
                next = commit.version.next();
            }
        }
        Ok(())
    }
}
