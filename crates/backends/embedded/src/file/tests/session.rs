//! Somebody who works with a store, step by step as chance has it, and keeps the story of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use icecore_log::{
    Backend, BlobId, Created, End, Error, ErrorKind, LogId, Mode, Result, StoredCommit, Version,
};

use super::chance::Chance;
use super::disk::ModelDisk;
use super::machine::Operation;
use super::story::{LogStory, Story};
use crate::file::{Access, FileStore, Settings};

/// Small enough that segments grow, and roll over, every few commits.
pub fn settings(seed: u64) -> Settings {
    let (first, most) = [(512, 2_048), (1_024, 8_192), (4_096, 4_096)][(seed % 3) as usize];
    Settings {
        segment_bytes_first: first,
        segment_bytes_max: most,
        group_bytes_max: 1_024,
        ..Settings::default()
    }
}

pub fn open(disk: &ModelDisk, access: Access, settings: &Settings) -> Result<FileStore> {
    FileStore::on(Arc::new(disk.clone()), Path::new("model"), access, settings.clone())
}

pub fn log(index: usize) -> LogId {
    LogId::new("acme", "session", &format!("s-{index}")).unwrap()
}

/// Runs a future of these tests where a caller who is alone writes in its own thread, for every other seed.
pub fn block_on_either<T>(seed: u64, future: impl Future<Output = T>) -> T {
    if seed.is_multiple_of(2) { block_on(future) } else { block_on_many(future) }
}

/// Runs a future of these tests where a caller who is alone writes in its own thread.
pub fn block_on_many<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap().block_on(future)
}

/// Runs a future of these tests: one thread, and a clock for pauses.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

pub struct Session {
    pub disk: ModelDisk,
    pub store: FileStore,
    pub story: Story,
    pub chance: Chance,
    pub settings: Settings,
    /// The story as it was from each position of the trace on.
    pub history: Vec<(usize, Story)>,
    /// False after opening it has failed.
    pub is_open: bool,
    /// Whether a group was written that no idle mark covers.
    is_unmarked: bool,
    /// How long a mark is waited for, in 2 ms.
    pub patience: usize,
    /// Marks that were waited for: if the trace has others, a busy machine made the writer idle.
    pub marks: usize,
}

impl Session {
    pub fn begin(disk: ModelDisk, settings: Settings, story: Story, chance: Chance) -> Result<Self> {
        let store = open(&disk, Access::ReadWrite, &settings)?;
        Ok(Self::with(store, disk, settings, story, chance))
    }

    /// With a store that may be on another disk.
    pub fn with(store: FileStore, disk: ModelDisk, settings: Settings, story: Story, chance: Chance) -> Self {
        let history = Vec::new();
        let (is_open, is_unmarked, patience, marks) = (true, false, 100, 0);
        Self { disk, store, story, chance, settings, history, is_open, is_unmarked, patience, marks }
    }

    fn note(&mut self) {
        self.history.push((self.disk.position(), self.story.clone()));
    }

    /// One step of any kind.
    pub async fn step(&mut self) -> Result<()> {
        self.step_of(32).await
    }

    /// One of the first so many kinds of 32; those from 30 on open the store again.
    pub async fn step_of(&mut self, kinds: usize) -> Result<()> {
        match self.chance.below(kinds) {
            0..15 => self.create().await,
            15..18 => self.close().await,
            18..20 => self.sweep().await,
            20..24 => self.drop_bodies().await,
            24..28 => self.blob().await,
            28..30 => self.pause().await,
            _ => self.reopen().await,
        }
    }

    fn commits(&mut self, from: u64, count: usize) -> Vec<StoredCommit> {
        let commit = |version| {
            let header = self.chance.below(90) + 20;
            let header = Bytes::from(self.chance.bytes(header));
            let bytes = [0, 40, 200, 700, 1_500][self.chance.below(5)];
            let bytes = if bytes == 0 { 0 } else { bytes / 2 + self.chance.below(bytes) };
            let body = Bytes::from(self.chance.bytes(bytes));
            StoredCommit {
                version: Version(version),
                header,
                body: (!self.chance.one_in(12)).then_some(body),
            }
        };
        (from..).take(count).map(commit).collect()
    }

    /// New commits in one to three logs.
    pub async fn create(&mut self) -> Result<()> {
        let logs: BTreeSet<LogId> =
            (0..1 + self.chance.below(3)).map(|_| log(self.chance.below(4))).collect();
        self.create_in(logs).await
    }

    pub async fn create_in(&mut self, logs: BTreeSet<LogId>) -> Result<()> {
        let mut runs = Vec::new();
        for name in &logs {
            let from = self.story.logs.entry(name.clone()).or_default().sent.len() as u64 + 1;
            let count = 1 + self.chance.below(3);
            let commits = self.commits(from, count);
            let story = self.story.logs.get_mut(name).unwrap();
            story.sent.extend(commits);
            runs.push(story.run(name, from, story.sent.len() as u64));
        }
        self.note();
        let mode = if self.chance.one_in(3) { Mode::AllOrNone } else { Mode::Each };
        let created = self.store.create(runs.clone(), mode).await;
        let mut outcome = Ok(());
        for (run, Created { won, end }) in runs.iter().zip(created) {
            let story = self.story.logs.get_mut(&run.log).unwrap();
            match end {
                End::Done => story.won = story.sent.len(),
                End::Failed(error) => {
                    assert_eq!(won, 0);
                    if error.kind() == ErrorKind::Unavailable {
                        // Nothing was written: from now on these may not be there.
                        story.sent.truncate(run.commits[0].version.0 as usize - 1);
                    }
                    outcome = Err(error);
                }
                other => panic!("{} was refused: {other:?}", run.log),
            }
        }
        self.is_unmarked = true;
        self.note();
        outcome
    }

    /// A log in which something can be closed or dropped.
    fn any_log(&mut self, has: impl Fn(&LogStory) -> bool) -> Option<LogId> {
        let names: Vec<LogId> =
            self.story.logs.iter().filter(|(_, log)| has(log)).map(|(name, _)| name.clone()).collect();
        names.get(self.chance.below(names.len())).cloned()
    }

    async fn close(&mut self) -> Result<()> {
        let is_long = |log: &LogStory| log.won as u64 > log.closed + 1 && log.sent.len() == log.won;
        let Some(name) = self.any_log(is_long) else {
            return Ok(());
        };
        let story = self.story.logs.get_mut(&name).unwrap();
        let through = story.closed + 1 + self.chance.below(story.won - 1 - story.closed as usize) as u64;
        let before = story.closing;
        story.closing = before.max(through);
        self.note();
        let outcome = self.store.close(&name, Version(through)).await;
        let story = self.story.logs.get_mut(&name).unwrap();
        match &outcome {
            Ok(()) => story.closed = through,
            // An earlier one may still be in doubt.
            Err(error) if error.kind() == ErrorKind::Unavailable => story.closing = before,
            Err(_) => {}
        }
        self.is_unmarked = true;
        self.note();
        outcome
    }

    async fn sweep(&mut self) -> Result<()> {
        let Some(name) = self.any_log(|log| log.closed > 0) else {
            return Ok(());
        };
        let before = idle_marks(&self.disk.trace());
        let outcome = self.store.sweep(&name).await.map(|_| ());
        self.has_marked(before);
        outcome
    }

    async fn drop_bodies(&mut self) -> Result<()> {
        let Some(name) = self.any_log(|log| log.won > 0 && log.sent.len() == log.won) else {
            return Ok(());
        };
        let story = self.story.logs.get_mut(&name).unwrap();
        let span = story.won - story.closed as usize;
        let versions: BTreeSet<u64> = (0..1 + self.chance.below(3))
            .map(|_| story.closed + 1 + self.chance.below(span) as u64)
            .filter(|version| story.sent[*version as usize - 1].body.is_some())
            .filter(|version| !story.dropped.contains(version))
            .collect();
        if versions.is_empty() {
            return Ok(());
        }
        let before = story.dropping.clone();
        story.dropping.extend(&versions);
        self.note();
        let asked: Vec<Version> = versions.iter().copied().map(Version).collect();
        let marks = idle_marks(&self.disk.trace());
        let outcome = self.store.drop_bodies(&name, &asked).await;
        let story = self.story.logs.get_mut(&name).unwrap();
        match &outcome {
            Ok(()) => story.dropped.extend(&versions),
            Err(error) if error.kind() == ErrorKind::Unavailable => story.dropping = before,
            Err(_) => {}
        }
        self.is_unmarked = true;
        self.has_marked(marks);
        self.note();
        outcome
    }

    /// Puts a blob, or deletes one.
    async fn blob(&mut self) -> Result<()> {
        let blob = BlobId::new(log(self.chance.below(2)), &format!("b-{}", self.chance.below(3)))?;
        let allowed = self.story.blobs.entry(blob.clone()).or_insert_with(|| vec![None]).clone();
        let count = self.chance.below(1_500);
        let wanted = match allowed.as_slice() {
            [Some(_)] => None,
            // One that may be there is put again as it was, as its owner would.
            [.., Some(bytes)] => Some(bytes.clone()),
            // One that may have been deleted is deleted again: a put would find it, and leave it as it was.
            _ if allowed.iter().any(Option::is_some) => None,
            _ => Some(Bytes::from(self.chance.bytes(count))),
        };
        self.story.blobs.insert(blob.clone(), [allowed.clone(), vec![wanted.clone()]].concat());
        self.note();
        let outcome = match &wanted {
            Some(bytes) => self.store.put_blob(&blob, bytes.clone()).await.map(|_| ()),
            None => self.store.delete_blob(&blob).await,
        };
        match &outcome {
            Ok(()) => drop(self.story.blobs.insert(blob, vec![wanted])),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                // Nothing was done.
                drop(self.story.blobs.insert(blob, allowed));
            }
            Err(_) => {}
        }
        self.note();
        outcome
    }

    /// Bytes are destroyed only behind a mark: the writer writes one if there is none, and then is not idle for one.
    fn has_marked(&mut self, before: usize) {
        let count = idle_marks(&self.disk.trace()) - before;
        self.marks += count;
        self.is_unmarked &= count == 0;
    }

    /// Until the writer has marked its last group.
    pub async fn pause(&mut self) -> Result<()> {
        if !self.is_unmarked {
            return Ok(());
        }
        let before = idle_marks(&self.disk.trace());
        // Where the disk fails it may never come.
        for _ in 0..self.patience {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if idle_marks(&self.disk.trace()) > before {
                break;
            }
        }
        self.marks += 1;
        self.is_unmarked = false;
        Ok(())
    }

    pub async fn reopen(&mut self) -> Result<()> {
        let outcome = self.store.shut_down().await;
        self.marks += 1;
        self.open_again()?;
        outcome
    }

    /// Opens the store again on the same machine, as after the death of the process.
    pub fn open_again(&mut self) -> Result<()> {
        // The old one is closed first: it holds the lock.
        let nowhere = ModelDisk::new(super::machine::Machine::default(), self.chance.clone());
        self.store = open(&nowhere, Access::ReadWrite, &self.settings)?;
        self.is_open = false;
        self.store = open(&self.disk, Access::ReadWrite, &self.settings)?;
        (self.is_open, self.is_unmarked) = (true, false);
        Ok(())
    }

    /// A few steps in each log, as after a crash: what was sent and lost is not sent again.
    pub async fn go_on(&mut self, steps: usize) -> Result<()> {
        self.create_in((0..4).map(log).collect()).await?;
        for _ in 0..steps {
            match self.chance.below(8) {
                0..4 => self.create().await?,
                4 => self.close().await?,
                5 => self.sweep().await?,
                6 => self.drop_bodies().await?,
                _ => self.blob().await?,
            }
        }
        Ok(())
    }

    /// The story at a cut after so many operations.
    pub fn story_at(&self, position: usize) -> Story {
        let known = self.history.partition_point(|(from, _)| *from <= position);
        known.checked_sub(1).map_or_else(Story::default, |last| self.history[last].1.clone())
    }
}

/// Groups without frames in a trace.
pub fn idle_marks(trace: &[Operation]) -> usize {
    let is_mark = |operation: &&Operation| matches!(operation, Operation::Write { bytes, offset, .. } if bytes.len() == 32 && *offset > 0 && bytes[0] == 1);
    trace.iter().filter(is_mark).count()
}

/// Works with a new store for so many steps; its last group is not marked, nor is it shut down.
pub async fn record(seed: u64, steps: usize) -> Session {
    for _ in 0..20 {
        let disk = ModelDisk::new(super::machine::Machine::default(), Chance::of(seed, &[1]));
        let mut session =
            Session::begin(disk, settings(seed), Story::default(), Chance::of(seed, &[2])).unwrap();
        for _ in 0..steps {
            session.step().await.unwrap();
        }
        if idle_marks(&session.disk.trace()) == session.marks {
            return session;
        }
    }
    panic!("the machine is too busy to record the same trace twice");
}

/// The kind of an outcome.
pub fn kind<T>(outcome: &Result<T>) -> Option<ErrorKind> {
    outcome.as_ref().err().map(Error::kind)
}
