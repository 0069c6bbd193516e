//! The snapshots of a log that make a state together: each goes on where the one below it ends.

use std::collections::BTreeMap;
use std::ops::Bound;

use icecore_log::{ErrorKind, Hash, Incarnation, LogId, Result, Version};

use crate::Inner;
use crate::chain::{Chain, Last};
use crate::open::damaged;
use crate::snapshot::{self, Content, Merged, Record, Snapshot, SnapshotInfo, over};
use crate::state::document::State;
use crate::state::expiry::Life;

/// Snapshots from version 0 on, oldest first; none of them is damaged, as far as it was looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers(Vec<Snapshot>);

impl Layers {
    /// Those that come nearest to a version, and not beyond it; none if there are none, or none that can be read.
    ///
    /// # Errors
    /// What the backend says. What is damaged is passed over: the commits say the same.
    pub async fn nearest(
        inner: &Inner,
        log: &LogId,
        incarnation: Incarnation,
        version: Version,
    ) -> Result<Self> {
        if version == Version::ZERO {
            return Ok(Self::default());
        }
        let mut listed = snapshot::list(inner, log, incarnation).await?;
        listed.retain(|info| info.to <= version);
        'again: loop {
            let (mut layers, path) = (Vec::new(), path(&listed));
            let bytes: u64 = path.iter().map(SnapshotInfo::bytes).sum();
            // What is read as a whole is read at once.
            let is_whole = bytes <= inner.settings.whole_state_bytes_max;
            for info in path {
                let opened = match is_whole {
                    true => Snapshot::open_whole(inner, log, info.clone()).await,
                    false => Snapshot::open(inner, log, info.clone()).await,
                };
                match opened {
                    Ok(Some(snapshot)) if goes_on(layers.last(), &snapshot) => layers.push(snapshot),
                    Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                    Ok(_) | Err(_) => {
                        listed.retain(|other| *other != info);
                        continue 'again;
                    }
                }
            }
            return Ok(Self(layers));
        }
    }

    /// Those that lead to this one, and it; `None` if none lead there.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if it is damaged, or does not go on where they end; what the backend says.
    pub async fn up_to(inner: &Inner, log: &LogId, info: SnapshotInfo) -> Result<Option<Self>> {
        let mut below = Self::nearest(inner, log, info.incarnation, info.from).await?;
        let (from, to) = (info.from, info.to);
        if below.version() != from {
            return Ok(None);
        }
        let Some(snapshot) = Snapshot::open(inner, log, info).await? else { return Ok(None) };
        if !goes_on(below.0.last(), &snapshot) {
            return Err(damaged(log, to, "a snapshot is of another history"));
        }
        below.0.push(snapshot);
        Ok(Some(below))
    }

    /// The version that they come to; zero if there are none.
    pub fn version(&self) -> Version {
        self.0.last().map_or(Version::ZERO, |top| top.info().to)
    }

    /// The hash of that commit.
    pub fn hash(&self) -> Hash {
        self.0.last().map_or(Hash::ZERO, |top| top.meta().hash)
    }

    /// What the log's own expiry comes to there.
    pub fn life(&self) -> Life {
        self.0.last().map_or_else(Life::default, |top| top.meta().life)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their bytes, as they are stored.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|layer| layer.info().bytes()).sum()
    }

    pub fn as_slice(&self) -> &[Snapshot] {
        &self.0
    }

    /// The chain behind the commit that they come to.
    pub fn chain(&self, chain: Chain) -> Chain {
        let Some(top) = self.0.last() else { return chain };
        let (info, meta) = (top.info(), top.meta());
        let last = Last {
            version: info.to,
            hash: meta.hash,
            position: meta.position,
            at: meta.at,
            incarnation: info.incarnation,
            // Nothing is behind a seal, and so nobody goes on from here.
            is_seal: false,
        };
        chain.behind(last, meta.name_tag)
    }

    /// What they say of a key.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub async fn get(&self, inner: &Inner, key: &str) -> Result<Option<Record>> {
        let mut found: Option<Record> = None;
        for layer in self.0.iter().rev() {
            let Some(older) = layer.get(&*inner.backend, key).await? else { continue };
            found = Some(match found {
                Some(newer) => over(Some(older), newer),
                None => older,
            });
            // Only the place of a value that was changed is still to be found below.
            if !matches!(&found, Some(Record { content: Content::Value { is_anew: false, .. }, .. })) {
                break;
            }
        }
        Ok(found.and_then(Record::whole))
    }

    /// What they say of all keys from one on.
    pub fn records(&self, from: Bound<&str>, to_the_end: bool) -> Result<Merged> {
        let cursors = self.0.iter().map(|layer| layer.cursor(from));
        Merged::new(
            cursors.map(|cursor| if to_the_end { cursor.reading_to_the_end() } else { cursor }).collect(),
        )
    }

    /// The whole state that they make.
    ///
    /// # Errors
    /// As reading a snapshot.
    pub async fn state(&self, inner: &Inner) -> Result<State> {
        let Some(top) = self.0.last() else { return Ok(State::default()) };
        let mut state = State::at(top.info().to, top.meta().at, top.meta().hash);
        state.life = top.meta().life;
        let mut records = self.records(Bound::Unbounded, true)?;
        while let Some(record) = records.next(&*inner.backend).await? {
            state.take_in(record);
        }
        Ok(state)
    }
}

/// Whether a snapshot was made on top of the one below it: of the same history, that is.
fn goes_on(below: Option<&Snapshot>, snapshot: &Snapshot) -> bool {
    below.map_or(Hash::ZERO, |below| below.meta().hash) == snapshot.meta().previous
}

/// Of the snapshots, those that lead from version 0 as far as any do, in as few steps as there are.
fn path(listed: &[SnapshotInfo]) -> Vec<SnapshotInfo> {
    // To each version that can be come to: by how many, and the last of them. They are listed by the versions that they end at.
    let mut reached: BTreeMap<Version, (usize, Option<&SnapshotInfo>)> = [(Version::ZERO, (0, None))].into();
    for info in listed {
        let Some((steps, _)) = reached.get(&info.from) else { continue };
        let steps = steps + 1;
        if reached.get(&info.to).is_none_or(|(best, _)| steps < *best) {
            reached.insert(info.to, (steps, Some(info)));
        }
    }
    let mut path = Vec::new();
    let mut last = reached.last_key_value().and_then(|(_, (_, info))| *info);
    while let Some(info) = last {
        path.push(info.clone());
        last = reached.get(&info.from).and_then(|(_, info)| *info);
    }
    path.reverse();
    path
}
