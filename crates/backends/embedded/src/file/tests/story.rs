//! What was sent to a store, what it acknowledged, and whether a store holds what it must and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use icecore_log::backend::Depth;
use icecore_log::{
    Backend, BlobId, End, Hash, Head, LogId, LogPrefix, Mode, Page, PageLimit, Run, StoredCommit, Version,
};

/// Everything that a store may show.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub logs: BTreeMap<LogId, LogStory>,
    /// The contents that each blob may have.
    pub blobs: BTreeMap<BlobId, Vec<Option<Bytes>>>,
}

/// One log, from version 1.
#[derive(Debug, Clone, Default)]
pub struct LogStory {
    pub sent: Vec<StoredCommit>,
    /// How many of them were acknowledged.
    pub won: usize,
    /// The highest boundary that was sent, and the highest that was acknowledged.
    pub closing: u64,
    pub closed: u64,
    pub dropping: BTreeSet<u64>,
    pub dropped: BTreeSet<u64>,
}

impl LogStory {
    /// The hash of a version; of none before the first.
    pub fn hash(&self, version: u64) -> Hash {
        version.checked_sub(1).map_or(Hash::ZERO, |index| self.sent[index as usize].hash())
    }

    /// A run of commits that were sent, `from` and `through` included.
    pub fn run(&self, log: &LogId, from: u64, through: u64) -> Run {
        let commits = self.sent[from as usize - 1..through as usize].to_vec();
        Run { log: log.clone(), previous: self.hash(from - 1), commits }
    }

    fn take(&mut self, name: &LogId, head: Option<&Head>, pages: &[Page]) {
        let Some(head) = head else {
            assert_eq!(self.won, 0, "{name} has acknowledged commits, and is not there");
            assert_eq!(self.closed, 0, "{name} is not there");
            *self = Self::default();
            return;
        };
        let (version, boundary) = (head.version.0, head.boundary.0);
        assert!(version as usize >= self.won, "{name} ends at {version}, but {} were acknowledged", self.won);
        assert!(version as usize <= self.sent.len(), "{name} ends at {version}, which nobody sent");
        assert_eq!(head.hash(), self.hash(version), "the head of {name}");
        assert!((self.closed..=self.closing).contains(&boundary), "{name} is closed through {boundary}");
        let commits: Vec<&StoredCommit> = pages.iter().flat_map(|page| &page.commits).collect();
        let versions: Vec<u64> = commits.iter().map(|commit| commit.version.0).collect();
        assert_eq!(versions, (boundary + 1..=version).collect::<Vec<_>>(), "{name} is dense");
        for commit in commits {
            let at = commit.version.0;
            let sent = &self.sent[at as usize - 1];
            assert_eq!(commit.header, sent.header, "the header of {name} {at}");
            if commit.body.is_none() && sent.body.is_some() {
                assert!(
                    self.dropping.contains(&at),
                    "the body of {name} {at} is gone, and nobody dropped it"
                );
                self.dropped.insert(at);
            } else {
                assert!(!self.dropped.contains(&at), "the body of {name} {at} came back");
                assert_eq!(commit.body, sent.body, "the body of {name} {at}");
                self.dropping.remove(&at);
            }
        }
        self.sent.truncate(version as usize);
        (self.won, self.closed, self.closing) = (version as usize, boundary, boundary);
        self.dropping = self.dropped.clone();
    }
}

pub async fn pages(store: &dyn Backend, log: &LogId, after: u64) -> Vec<Page> {
    let (mut pages, mut from) = (Vec::new(), after + 1);
    loop {
        let page = store.read(log, Version(from), PageLimit::WHOLE.commits(7)).await.unwrap();
        if page.commits.is_empty() {
            return pages;
        }
        from += page.commits.len() as u64;
        pages.push(page);
    }
}

impl Story {
    /// Whether a store shows what this allows, without damage. What it shows is what is true from now on: a store
    /// that is open to write has made it durable before it showed it.
    pub async fn check(&mut self, store: &dyn Backend) {
        let names: Vec<LogId> = self.logs.keys().cloned().collect();
        let heads = store.heads(&names).await.unwrap();
        for (name, head) in names.iter().zip(&heads) {
            let boundary = head.as_ref().map_or(0, |head| head.boundary.0);
            let pages = pages(store, name, boundary).await;
            self.logs.get_mut(name).unwrap().take(name, head.as_ref(), &pages);
            if boundary > 0 {
                self.is_closed(store, name, boundary).await;
            }
        }
        let there: Vec<&LogId> =
            names.iter().zip(&heads).filter(|(_, head)| head.is_some()).map(|(name, _)| name).collect();
        let listed = store.logs(&LogPrefix::all(), None, 100).await.unwrap().logs;
        assert_eq!(listed.iter().collect::<Vec<_>>(), there, "the logs that are listed");

        for (blob, allowed) in &mut self.blobs {
            let found = store.get_blob(blob, None).await.unwrap();
            let bytes = found.as_ref().map(Bytes::len);
            let lengths: Vec<_> = allowed.iter().map(|allowed| allowed.as_ref().map(Bytes::len)).collect();
            assert!(
                allowed.contains(&found),
                "{blob} holds {bytes:?} bytes, and must hold one of {lengths:?}"
            );
            let listed = store.list_blobs(blob.log(), blob.name()).await.unwrap();
            assert_eq!(listed.len(), usize::from(found.is_some()), "{blob} is listed");
        }

        let examination = store.examine(Depth::Deep).await.unwrap();
        assert!(examination.damage.is_empty(), "no damage was done, but found: {:?}", examination.damage);
    }

    /// The same, after a cut: a blob that is there now is durable, and one that is not never comes back.
    pub async fn check_after_a_cut(&mut self, store: &dyn Backend) {
        self.check(store).await;
        for (blob, allowed) in &mut self.blobs {
            *allowed = vec![store.get_blob(blob, None).await.unwrap()];
        }
    }

    /// Nothing at or below a boundary is read, or can be created again.
    async fn is_closed(&self, store: &dyn Backend, name: &LogId, boundary: u64) {
        let page = store.read(name, Version(boundary), PageLimit::WHOLE).await.unwrap();
        assert_eq!(page, Page { commits: Vec::new(), boundary: Version(boundary) }, "{name} is closed");
        if !store.capabilities().read_only {
            let run = self.logs[name].run(name, boundary, boundary);
            let created = store.create(vec![run], Mode::Each).await;
            assert!(
                matches!(created[0].end, End::Closed(Version(found)) if found == boundary),
                "{name} {boundary} was created again: {created:?}"
            );
        }
    }

    /// Bodies that are gone for good.
    pub fn destroyed(&self) -> impl Iterator<Item = &Bytes> {
        self.logs.values().flat_map(|log| {
            let bodies =
                log.dropped.iter().filter_map(|version| log.sent[*version as usize - 1].body.as_ref());
            bodies.filter(|body| body.len() >= 16)
        })
    }
}
