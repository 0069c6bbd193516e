//! The bytes of `docs/formats/commit.md`: golden files are read, and written again to the same bytes.
//!
//! `ICECORE_BLESS=1 cargo test -p icecore-log --test golden` writes them anew, which is allowed until 0.1.0 only.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use bytes::Bytes;
use icecore_log::codec::{Preamble, SealedEntry, Secret};
use icecore_log::{
    Entry, EntryHeader, EntryId, Event, Flags, Hash, Header, Incarnation, LogId, Timestamp, Version,
};
use std::path::PathBuf;

fn golden(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("ICECORE_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    std::fs::read(path).unwrap()
}

fn secret() -> Secret {
    Secret([7; 32])
}

fn log() -> LogId {
    LogId::new("acme", "session", "s 42").unwrap()
}

fn entry() -> Entry {
    let mut full = Event::new("node_success", r#"{"n":1.0}"#);
    full.at = Some(Timestamp(1_700_000_000_123_456_789));
    full.content_type = "application/json".into();
    full.schema_version = 3;
    full.actor = "ada".into();
    full.trace = "t-1".into();
    full.node = "fetch".into();
    full.correlation = "c-1".into();
    full.causation = "e-0".into();
    full.subjects = vec!["person-1".into(), "person-2".into()];
    full.meta = [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into();
    let small = Event::new("k", "");
    Entry { id: Some(EntryId::new("first").unwrap()), events: vec![full, small] }
}

fn commit() -> (Header, Vec<u8>) {
    let large = Entry::new(Event::new("large", "abcdefgh".repeat(1_000)));
    let sealed = [entry(), large].map(|entry| SealedEntry::seal(entry, [1; 16]).unwrap());
    let (preamble, mut body) = {
        let (frame, bytes) = Preamble { name: log(), secret: secret() }.seal([2; 16]);
        (frame, bytes.to_vec())
    };
    let entries = sealed
        .iter()
        .map(|sealed| {
            body.extend_from_slice(&sealed.bytes);
            EntryHeader {
                id_tag: sealed.id.as_ref().map(|id| secret().id_tag(id)),
                content_tag: sealed.id.as_ref().map(|_| secret().content_tag(sealed.digest)),
                events: sealed.events,
                frame: sealed.frame.clone(),
            }
        })
        .collect();
    let header = Header {
        name_tag: secret().name_tag(&log()),
        incarnation: Incarnation([3; 16]),
        version: Version::FIRST,
        position: 0,
        previous: Hash::ZERO,
        at: Timestamp(1_700_000_000_000_000_000),
        writer: [4; 16],
        epoch: 5,
        nonce: [6; 16],
        flags: Flags { base: true, seal: true, expires: true },
        base: Version::FIRST,
        preamble: Some(preamble),
        entries,
    };
    (header, body)
}

#[test]
fn a_header_is_written_to_its_golden_bytes_and_read_from_them() {
    let (header, _) = commit();

    let golden = golden("header.bin", &header.encode());

    assert_eq!(header.encode(), golden);
    assert_eq!(Header::decode(golden.into()).unwrap(), header);
}

#[test]
fn a_body_is_written_to_its_golden_bytes_and_read_from_them() {
    let (header, body) = commit();

    let golden: Bytes = golden("body.bin", &body).into();

    assert_eq!(body, golden);
    let entries = header.open_body(&golden).unwrap();
    assert_eq!(entries[0], entry());
    assert_eq!(entries[1].events[0].data, "abcdefgh".repeat(1_000));
    assert_eq!(header.open_preamble(&golden).unwrap().unwrap().name, log());
}

#[test]
fn any_flipped_bit_of_a_body_is_noticed() {
    let (header, body) = commit();

    for bit in 0..body.len() * 8 {
        let mut flipped = body.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);

        assert!(header.open_body(&flipped.into()).is_err(), "bit {bit}");
    }
}
