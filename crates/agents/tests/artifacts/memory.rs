//! How much memory content takes on its way: a few parts, however much it is.

use icecore_embedded::{FileStore, file};
use icecore_log::Access;

use super::*;

const BYTES: u64 = 200 << 20;
const PIECE: usize = 1 << 20;
/// The most by which this process may grow: a tenth of what comes and goes.
const GROWTH_MAX: u64 = BYTES / 5;

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

fn piece(number: u64) -> Bytes {
    let byte = (number % 256) as u8;
    (0..PIECE).map(|place| byte ^ (place % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn two_hundred_megabytes_go_through_a_few_parts_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let backend = FileStore::open(&path, Access::ReadWrite, file::Settings::default()).unwrap();
    let world = World::over(Arc::new(backend));
    let limits = Retention { artifact_bytes_max: BYTES, ..Retention::default() };
    let owned = world.session(limits, "s-1");
    // What a store and a first artifact need is there already.
    put(&owned, "first", 10_000_000).await;
    let before = peak();

    let mut upload = owned.upload(what("large"));
    for number in 0..BYTES / PIECE as u64 {
        upload.write(piece(number)).await.unwrap();
    }
    let stored = upload.finish().await.unwrap();
    let stored_at = peak();

    let (mut reading, mut number, mut rest) = (stored.read(), 0, Vec::new());
    while let Some(part) = reading.next().await.unwrap() {
        rest.extend_from_slice(&part);
        while rest.len() >= PIECE {
            assert_eq!(rest[..PIECE], piece(number));
            rest.drain(..PIECE);
            number += 1;
        }
    }
    assert_eq!((number * PIECE as u64, rest.len()), (BYTES, 0));
    let grown = (stored_at - before, peak() - before);
    println!("it grew by {} KiB while storing, {} KiB in all", grown.0 >> 10, grown.1 >> 10);
    assert!(grown.1 < GROWTH_MAX, "{grown:?}");
}
