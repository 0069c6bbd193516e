//! A machine that can lose its power: what its page cache shows, and what would be there after a cut.
//!
//! The rules are stricter than any file system we know, so that nothing rests on the kindness of one:
//! - A sector of 512 bytes is written whole or not; until the file is synced it may hold any of the states that it had since
//!   the last sync, whatever its neighbours hold.
//! - Lengths are kept in order, and a cut takes what was behind it; without a sync none of that need be durable.
//! - Each name that was made or removed is durable after a sync of its own directory; before, each may be or not.
//! - After a failed sync nothing is dirty any more: the cache shows all of it, and the next sync writes none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::chance::Chance;

pub const SECTOR: usize = 512;

/// A change that was asked of the disk.
#[derive(Debug, Clone)]
pub enum Operation {
    Create { name: String, bytes: u64 },
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    Resize { file: usize, bytes: u64 },
    Punch { file: usize, offset: u64, bytes: u64 },
    Sync { file: usize },
    Publish { from: String, to: String },
    Remove { name: String },
    MakeDir { name: String },
    SyncDir { name: String },
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Write { file, offset, bytes } => write!(f, "write {file} {offset}+{}", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

/// Files and names, as they are shown and as they are kept.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    files: Vec<Content>,
    shown: BTreeMap<String, Node>,
    kept: BTreeMap<String, Node>,
    /// Changes of names since their directory's last sync, in order.
    unsure: Vec<(String, Option<Node>)>,
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Machine {
    /// Carries out a change; the file that was created, or 1 if a published name was free.
    pub fn apply(&mut self, operation: &Operation) -> io::Result<usize> {
        match operation {
            Operation::Create { name, bytes } => {
                if self.shown.contains_key(name) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.has_directory(parent(name))?;
                let file = self.files.len();
                self.files.push(Content::default());
                self.files[file].resize(*bytes);
                self.name(name, Some(Node::File(file)));
                return Ok(file);
            }
            Operation::Write { file, offset, bytes } => self.files[*file].write(*offset, bytes),
            Operation::Resize { file, bytes } => self.files[*file].resize(*bytes),
            Operation::Punch { file, offset, bytes } => {
                let content = &mut self.files[*file];
                let end = (offset + bytes).min(content.shown.len() as u64);
                content.write(*offset, &vec![0; end.saturating_sub(*offset) as usize]);
            }
            Operation::Sync { file } => self.files[*file].sync(),
            Operation::Publish { from, to } => {
                let node = *self.shown.get(from).ok_or_else(not_found)?;
                self.has_directory(parent(to))?;
                let is_free = !self.shown.contains_key(to);
                if is_free {
                    self.name(to, Some(node));
                }
                self.name(from, None);
                return Ok(usize::from(is_free));
            }
            Operation::Remove { name } => {
                self.file(name)?;
                self.name(name, None);
            }
            Operation::MakeDir { name } => {
                let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
                for path in ends.map(|end| &name[..end]) {
                    if !self.shown.contains_key(path) {
                        self.name(path, Some(Node::Directory));
                    }
                }
            }
            Operation::SyncDir { name } => {
                self.has_directory(name)?;
                let (sure, unsure) =
                    std::mem::take(&mut self.unsure).into_iter().partition(|(path, _)| parent(path) == name);
                self.unsure = unsure;
                keep(&mut self.kept, sure);
            }
        }
        Ok(0)
    }

    fn has_directory(&self, name: &str) -> io::Result<()> {
        let is_there = name.is_empty() || self.shown.get(name) == Some(&Node::Directory);
        if is_there { Ok(()) } else { Err(not_found()) }
    }

    fn name(&mut self, name: &str, node: Option<Node>) {
        self.unsure.push((name.to_owned(), node));
        keep(&mut self.shown, vec![(name.to_owned(), node)]);
    }

    /// Whether a change needs space.
    pub fn allocates(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Create { .. } | Operation::MakeDir { .. } => true,
            Operation::Write { file, offset, bytes } => {
                offset + bytes.len() as u64 > self.files[*file].shown.len() as u64
            }
            Operation::Resize { file, bytes } => *bytes > self.files[*file].shown.len() as u64,
            Operation::Punch { .. }
            | Operation::Sync { .. }
            | Operation::Publish { .. }
            | Operation::Remove { .. }
            | Operation::SyncDir { .. } => false,
        }
    }

    /// A sync that fails: some of what it should have written was written, and all of it is forgotten.
    pub fn fail_sync(&mut self, file: usize, chance: &mut Chance) {
        let content = &mut self.files[file];
        content.kept = content.survivor(chance);
        content.unsure.clear();
    }

    /// The cache lets go of whatever needs no writing: what a failed sync forgot is shown no longer.
    pub fn evict(&mut self) {
        self.files.iter_mut().for_each(Content::evict);
    }

    /// What is there when the power is back.
    pub fn cut(&self, chance: &mut Chance) -> Self {
        let luck = Luck::any(chance);
        let mut names = self.kept.clone();
        keep(&mut names, self.unsure.iter().filter(|_| luck.survives(chance)).cloned().collect());
        let all = names.clone();
        // A directory sorts before what is in it, and takes that along.
        let mut lost = BTreeSet::new();
        names.retain(|name, _| {
            let directory = parent(name);
            let is_lost = lost.contains(directory) || !directory.is_empty() && !all.contains_key(directory);
            if is_lost {
                lost.insert(name.clone());
            }
            !is_lost
        });
        let used: BTreeSet<usize> = names
            .values()
            .filter_map(|node| match node {
                Node::File(file) => Some(*file),
                Node::Directory => None,
            })
            .collect();
        let files = self.files.iter().enumerate().map(|(file, content)| {
            let shown = if used.contains(&file) { content.survivor(chance) } else { Vec::new() };
            Content { kept: shown.clone(), shown, unsure: Vec::new() }
        });
        Self { files: files.collect(), kept: names.clone(), shown: names, unsure: Vec::new() }
    }

    pub fn file(&self, name: &str) -> io::Result<usize> {
        match self.shown.get(name) {
            Some(Node::File(file)) => Ok(*file),
            _ => Err(not_found()),
        }
    }

    pub fn content(&self, file: usize) -> &[u8] {
        &self.files[file].shown
    }

    pub fn all_files(&self) -> Vec<String> {
        self.shown
            .iter()
            .filter(|(_, node)| **node != Node::Directory)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The names in a directory.
    pub fn list(&self, name: &str) -> Vec<String> {
        let names = self.shown.keys().filter(|path| parent(path) == name);
        names.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect()
    }

    /// The files that show these bytes.
    pub fn files_with(&self, bytes: &[u8]) -> Vec<&str> {
        let has = |node: &Node| match node {
            Node::File(file) => self.files[*file].shown.windows(bytes.len()).any(|window| window == bytes),
            Node::Directory => false,
        };
        self.shown.iter().filter(|(_, node)| has(node)).map(|(name, _)| name.as_str()).collect()
    }
}

fn keep(names: &mut BTreeMap<String, Node>, changes: Vec<(String, Option<Node>)>) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name, node),
            None => names.remove(&name),
        };
    }
}

/// How much survives, on the whole: the ends are where most mistakes show.
#[derive(Clone, Copy)]
enum Luck {
    None,
    All,
    Some,
}

impl Luck {
    fn any(chance: &mut Chance) -> Self {
        match chance.below(6) {
            0 | 1 => Self::None,
            2 => Self::All,
            _ => Self::Some,
        }
    }

    fn survives(self, chance: &mut Chance) -> bool {
        self.between(0, 1, chance) == 1
    }

    fn between(self, low: usize, high: usize, chance: &mut Chance) -> usize {
        match self {
            Self::None => low,
            Self::All => high,
            Self::Some => low + chance.below(high - low + 1),
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Bytes(usize, Vec<u8>),
    Grow(usize),
    Cut(usize),
}

/// One file's bytes.
#[derive(Debug, Clone, Default)]
struct Content {
    shown: Vec<u8>,
    kept: Vec<u8>,
    /// Since the last sync, in order.
    unsure: Vec<Change>,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let offset = offset as usize;
        if self.shown.len() < offset + bytes.len() {
            self.resize((offset + bytes.len()) as u64);
        }
        self.shown[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.unsure.push(Change::Bytes(offset, bytes.to_vec()));
    }

    fn resize(&mut self, bytes: u64) {
        let (before, bytes) = (self.shown.len(), bytes as usize);
        self.shown.resize(bytes, 0);
        match before.cmp(&bytes) {
            std::cmp::Ordering::Less => self.unsure.push(Change::Grow(bytes)),
            std::cmp::Ordering::Greater => self.unsure.push(Change::Cut(bytes)),
            std::cmp::Ordering::Equal => {}
        }
    }

    /// The sectors that a sync would write.
    fn dirty(&self) -> BTreeSet<usize> {
        let written = self.unsure.iter().filter_map(|change| match change {
            Change::Bytes(offset, bytes) if !bytes.is_empty() => {
                Some(offset / SECTOR..=(offset + bytes.len() - 1) / SECTOR)
            }
            Change::Cut(bytes) => Some(bytes / SECTOR..=bytes / SECTOR),
            _ => None,
        });
        written.flatten().collect()
    }

    fn sync(&mut self) {
        let dirty = self.dirty();
        for change in self.unsure.drain(..) {
            match change {
                Change::Cut(bytes) => self.kept.truncate(bytes),
                Change::Grow(bytes) => self.kept.resize(bytes, 0),
                Change::Bytes(..) => {}
            }
        }
        self.kept.resize(self.shown.len(), 0);
        for sector in dirty {
            let range = sector_of(sector, self.shown.len());
            self.kept[range.clone()].copy_from_slice(&self.shown[range]);
        }
    }

    fn evict(&mut self) {
        let dirty = self.dirty();
        for sector in (0..self.shown.len().div_ceil(SECTOR)).filter(|sector| !dirty.contains(sector)) {
            let range = sector_of(sector, self.shown.len());
            let kept = self.kept.get(range.start..range.end.min(self.kept.len())).unwrap_or_default();
            self.shown[range.clone()].fill(0);
            self.shown[range.start..range.start + kept.len()].copy_from_slice(kept);
        }
    }

    /// One of the states that a cut may leave.
    fn survivor(&self, chance: &mut Chance) -> Vec<u8> {
        if self.unsure.is_empty() {
            return self.kept.clone();
        }
        let luck = Luck::any(chance);
        let lengths: Vec<usize> = (0..self.unsure.len())
            .filter(|index| !matches!(self.unsure[*index], Change::Bytes(..)))
            .collect();
        let count = luck.between(0, lengths.len(), chance);
        let kept_through = if count == 0 { 0 } else { lengths[count - 1] + 1 };
        let (mut bytes, mut most) = (self.kept.len(), self.kept.len());
        for (index, change) in self.unsure.iter().enumerate() {
            if let Change::Grow(length) | Change::Cut(length) = change {
                most = most.max(*length);
                bytes = if index < kept_through { *length } else { bytes };
            }
        }
        let mut survivor = self.kept.clone();
        survivor.resize(most, 0);
        for sector in self.dirty_or_cut(most) {
            let range = sector_of(sector, most);
            // A cut that is durable took what was before it; one that is not lets nothing through that came after it.
            let (mut low, mut high) = (0, self.unsure.len());
            for (index, change) in self.unsure.iter().enumerate() {
                match change {
                    Change::Cut(length) if *length < range.end && index < kept_through => low = index + 1,
                    Change::Cut(length) if *length < range.end => high = high.min(index),
                    _ => {}
                }
            }
            let through = luck.between(low, high, chance);
            for change in &self.unsure[..through] {
                match change {
                    Change::Bytes(offset, bytes) => {
                        let (start, end) =
                            ((*offset).max(range.start), (offset + bytes.len()).min(range.end));
                        if start < end {
                            survivor[start..end].copy_from_slice(&bytes[start - offset..end - offset]);
                        }
                    }
                    Change::Cut(length) if *length < range.end => {
                        survivor[(*length).max(range.start)..range.end].fill(0);
                    }
                    _ => {}
                }
            }
        }
        survivor.resize(bytes, 0);
        survivor
    }

    fn dirty_or_cut(&self, bytes: usize) -> BTreeSet<usize> {
        let mut sectors = self.dirty();
        for change in &self.unsure {
            if let Change::Cut(length) = change {
                sectors.extend(length / SECTOR..bytes.div_ceil(SECTOR));
            }
        }
        sectors.retain(|sector| sector * SECTOR < bytes);
        sectors
    }
}

fn sector_of(sector: usize, bytes: usize) -> std::ops::Range<usize> {
    (sector * SECTOR).min(bytes)..((sector + 1) * SECTOR).min(bytes)
}
