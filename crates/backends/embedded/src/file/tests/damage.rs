//! A bit flips, on a disk that was written well.
//!
//! Every bit is either reported, with the file that it is in, or it is one of these, which mean nothing:
//! - what is behind the last group of a segment: space that was allocated and not used yet;
//! - header and body of a commit at or below its log's boundary, and the body of one whose body was dropped;
//! - the space between the marks;
//! - the head of a last group without frames, if the mark file was lost: it says only that the group before is durable, and whoever opens
//!   the store to write makes sure of that. A reader, which cannot, does not show that group then.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use icecore_log::backend::Depth;
use icecore_log::{Backend, Error, ErrorKind, LogId, LogPrefix, PageLimit, Result, Version};

use super::chance::{Chance, Told, seeds};
use super::disk::ModelDisk;
use super::machine::{Machine, Operation};
use super::session::{Session, block_on, open, settings};
use super::story::Story;
use crate::file::frame::{CLOSED_SLOT, Head, Kind, MARK_BYTES, MARK_SLOTS, SEGMENT_HEAD};
use crate::file::scan::MARK_FILE;
use crate::file::{Access, FileStore};

/// How a store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Shut down.
    Closed,
    /// Copied while its writer was idle.
    Live,
    /// The same, and the mark file was never written: nobody waits for it.
    Unmarked,
}

/// A store in a real directory, as it was left, and what is in it.
async fn leave(directory: &Path, seed: u64, left: Left) -> (Machine, Story) {
    let store = FileStore::open(directory, Access::ReadWrite, settings(0)).unwrap();
    let nowhere = ModelDisk::new(Machine::default(), Chance::new(seed));
    let mut session = Session::with(store, nowhere, settings(0), Story::default(), Chance::new(seed));
    session.go_on(5).await.unwrap();
    match left {
        Left::Closed => session.store.shut_down().await.unwrap(),
        Left::Live | Left::Unmarked => tokio::time::sleep(Duration::from_millis(100)).await,
    }
    let mut machine = Machine::default();
    load(&mut machine, directory, "");
    if left == Left::Unmarked {
        let file = machine.file(MARK_FILE).unwrap();
        let bytes = vec![0; machine.content(file).len()];
        machine.apply(&Operation::Write { file, offset: 0, bytes }).unwrap();
    }
    (machine, session.story.clone())
}

fn load(machine: &mut Machine, directory: &Path, prefix: &str) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            machine.apply(&Operation::MakeDir { name: name.clone() }).unwrap();
            load(machine, &path, &format!("{name}/"));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let file = machine.apply(&Operation::Create { name, bytes: 0 }).unwrap();
            machine.apply(&Operation::Write { file, offset: 0, bytes }).unwrap();
            machine.apply(&Operation::Sync { file }).unwrap();
        }
    }
}

/// What a file's bytes are.
#[derive(Debug, Default)]
struct Layout {
    /// Every bit of these is tried, and a sample of the others.
    heads: Vec<Range<usize>>,
    meaningless: Vec<Range<usize>>,
    /// The one that nothing else vouches for.
    last_mark: Range<usize>,
}

fn layout(name: &str, bytes: &[u8], story: &Story, is_last: bool, left: Left) -> Layout {
    let mut layout = Layout::default();
    if name == MARK_FILE {
        let slots = MARK_SLOTS.into_iter().chain([CLOSED_SLOT]).map(|slot| slot as usize);
        layout.heads = slots.map(|slot| slot..slot + MARK_BYTES).collect();
        layout.meaningless = layout.heads.windows(2).map(|slots| slots[0].end..slots[1].start).collect();
    } else if name.ends_with(".seg") {
        let mut position = SEGMENT_HEAD as usize;
        let salt = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
        layout.heads.push(0..position);
        let mut last_group = 0..0;
        while let Some(head) = Head::parse(&bytes[position..], salt) {
            let range = position..position + head.bytes;
            if head.kind == Kind::Group {
                last_group = range.clone();
            }
            let header_end = range.end + head.header_bytes as usize;
            position += head.frame_bytes() as usize;
            if let Some(log) = head.log.as_ref().filter(|_| head.kind == Kind::Commit) {
                let log = &story.logs[log];
                if head.version <= log.closed {
                    layout.meaningless.push(range.end..position);
                } else if log.dropped.contains(&head.version) {
                    layout.meaningless.push(header_end..position);
                }
            }
            layout.heads.push(range);
        }
        if is_last && left == Left::Unmarked {
            assert_eq!(last_group.end, position, "the last group is a mark");
            layout.meaningless.push(last_group.clone());
            layout.last_mark = last_group;
        }
        layout.meaningless.push(position..bytes.len());
    } else {
        layout.heads.push(0..bytes.len().min(100));
    }
    layout
}

/// Everything that a store reports. What it reads without an error is right, and complete.
async fn reports(store: &FileStore, story: &Story) -> Vec<Error> {
    let mut reports = Vec::new();
    let listed = store.logs(&LogPrefix::all(), None, 100).await.unwrap().logs;
    assert_eq!(listed, story.logs.keys().cloned().collect::<Vec<_>>());
    for (name, log) in &story.logs {
        match store.heads(std::slice::from_ref(name)).await.map(|mut heads| heads.remove(0)) {
            Ok(head) => {
                let head = head.unwrap();
                assert_eq!((head.version.0 as usize, head.boundary.0), (log.won, log.closed), "{name}");
                assert_eq!(head.header, log.sent[log.won - 1].header, "{name}");
            }
            Err(error) => reports.push(error),
        }
        reports.extend(read(store, name, story).await.err());
    }
    for (blob, allowed) in &story.blobs {
        match store.get_blob(blob, None).await {
            Ok(found) => assert_eq!([found].as_slice(), allowed.as_slice(), "{blob}"),
            Err(error) => reports.push(error),
        }
        reports.extend(store.list_blobs(blob.log(), "").await.err());
    }
    reports.extend(store.examine(Depth::Deep).await.unwrap().damage);
    reports
}

async fn read(store: &FileStore, name: &LogId, story: &Story) -> Result<()> {
    let log = &story.logs[name];
    let mut next = log.closed + 1;
    while next as usize <= log.won {
        let page = store.read(name, Version(next), PageLimit::WHOLE.commits(5)).await?;
        assert!(!page.commits.is_empty(), "{name} ends before {next}");
        for commit in page.commits {
            let sent = &log.sent[next as usize - 1];
            assert_eq!(commit.header, sent.header, "{name} {next}");
            let body = sent.body.as_ref().filter(|_| !log.dropped.contains(&next));
            assert_eq!(commit.body.as_ref(), body, "{name} {next}");
            next += 1;
        }
    }
    Ok(())
}

fn flip(machine: &mut Machine, name: &str, bit: usize) {
    let file = machine.file(name).unwrap();
    let byte = machine.content(file)[bit / 8] ^ (1 << (bit % 8));
    machine.apply(&Operation::Write { file, offset: bit as u64 / 8, bytes: vec![byte] }).unwrap();
    machine.apply(&Operation::Sync { file }).unwrap();
}

/// What is reported of a flipped bit.
fn judge(reports: &[Error], name: &str, is_meaningless: bool) {
    for report in reports {
        assert_eq!(report.kind(), ErrorKind::Corrupt, "{report}");
        assert_eq!(report.fact("file"), Some(name), "{report}");
    }
    assert_eq!(reports.is_empty(), is_meaningless, "whether it means nothing; reported: {reports:?}");
}

async fn every_bit_is_reported(seed: u64, left: Left) {
    let directory = tempfile::tempdir().unwrap();
    let (whole, story) = leave(directory.path(), seed, left).await;
    let mut chance = Chance::of(seed, &[1]);
    let is_long = std::env::var("ICECORE_LONG").is_ok_and(|long| long == "1");
    let names = whole.all_files();
    let last_segment = names.iter().filter(|name| name.ends_with(".seg")).max().unwrap().clone();
    assert!(last_segment.as_str() > "00000002.seg", "there are several segments");
    for name in names {
        let bytes = whole.content(whole.file(&name).unwrap()).to_vec();
        let layout = layout(&name, &bytes, &story, name == last_segment, left);
        for bit in 0..bytes.len() * 8 {
            let has = |ranges: &[Range<usize>]| ranges.iter().any(|range| range.contains(&(bit / 8)));
            // In the short run each bit of a head has its turn in one of the three.
            let is_tried = if has(&layout.heads) { bit % 3 == left as usize } else { chance.one_in(300) };
            if !is_long && !is_tried {
                continue;
            }
            let _told =
                Told(format!("ICECORE_SEED={seed}, {left:?}, {name}, byte {}, bit {}", bit / 8, bit % 8));
            let mut machine = whole.clone();
            flip(&mut machine, &name, bit);
            let disk = ModelDisk::new(machine, Chance::new(seed));

            let is_last_mark = layout.last_mark.contains(&(bit / 8));
            if !is_last_mark {
                let reader = open(&disk, Access::ReadOnly, &settings(0)).unwrap();
                judge(&reports(&reader, &story).await, &name, has(&layout.meaningless));
            }
            if !is_last_mark && !chance.one_in(16) {
                continue;
            }
            // The marks are written anew by whoever opens the store to write. Nothing else mends itself, and nothing is made worse.
            for _ in 0..2 {
                let writer = open(&disk, Access::ReadWrite, &settings(0)).unwrap();
                let reports = reports(&writer, &story).await;
                let is_mended = name == MARK_FILE && reports.is_empty();
                judge(&reports, &name, is_mended || has(&layout.meaningless));
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_store_that_was_shut_down_is_reported() {
    for seed in seeds(1) {
        block_on(every_bit_is_reported(seed, Left::Closed));
    }
}

#[test]
fn every_flipped_bit_of_a_store_that_is_in_use_is_reported() {
    for seed in seeds(1) {
        block_on(every_bit_is_reported(seed, Left::Live));
    }
}

/// Each group says how far was durable before it. If the mark file was lost in a power cut, that has to be found behind the damage too:
/// otherwise all that follows a damaged head is a torn tail.
#[test]
fn every_flipped_bit_before_the_last_mark_is_reported_without_the_mark_file() {
    for seed in seeds(1) {
        block_on(every_bit_is_reported(seed, Left::Unmarked));
    }
}

/// The same on the file system itself, with its own reads.
#[test]
fn a_flipped_bit_in_a_real_directory_is_reported() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (whole, story) = leave(directory.path(), 2, Left::Closed).await;
        let mut chance = Chance::new(2);
        let mut names = whole.all_files();
        names.retain(|name| name.ends_with(".seg"));
        for _ in 0..50 {
            let name = &names[chance.below(names.len())];
            let path = directory.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            let bit = chance.below(bytes.len() * 8);
            let _told = Told(format!("{name}, bit {bit}"));
            let layout = layout(name, &bytes, &story, false, Left::Closed);
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();

            let reader = FileStore::open(directory.path(), Access::ReadOnly, settings(0)).unwrap();
            let is_meaningless = layout.meaningless.iter().any(|range| range.contains(&(bit / 8)));
            judge(&reports(&reader, &story).await, name, is_meaningless);

            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
        }
    });
}
