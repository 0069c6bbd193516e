//! Bytes that somebody made, with hashes that fit: they are refused, or in order, and never cost more than they say.

use bytes::{Bytes, BytesMut};
use icecore_log::Version;
use proptest::prelude::*;

use super::support::*;
use crate::snapshot::record::Span;
use crate::snapshot::table::{self, BlockEntry, Damage};
use crate::snapshot::{Content, Record};

const DIFF: Span = Span { from: Version(3), to: Version(9) };

fn entry(first: &str, stored: &[u8]) -> BlockEntry {
    BlockEntry {
        first: first.into(),
        offset: 0,
        stored: stored.len() as u32,
        plain: stored.len() as u32,
        is_packed: false,
        check: table::check_of(stored),
    }
}

/// Reads a block of these records, whose index says that it begins with `first` and the next with `below`.
fn read(records: &[Record], first: &str, below: Option<&str>, span: Span) -> Result<usize, Damage> {
    let mut bytes = BytesMut::new();
    records.iter().for_each(|record| record.put(&mut bytes));
    let entry = entry(first, &bytes);
    let mut block = entry.open(bytes.freeze(), below.map(Into::into), span)?;
    let mut count = 0;
    while block.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[test]
fn records_that_are_out_of_order_or_of_another_snapshot_are_refused() {
    let good = || value("1", 5, 5);
    let [a, b, c] = ["a", "b", "c"].map(|key| record(key, good()));
    let all = [a.clone(), b.clone(), c.clone()];
    let whole = Span { from: Version(0), ..DIFF };

    assert_eq!(read(&all, "a", Some("d"), DIFF), Ok(3));
    assert!(read(&[b.clone(), a.clone()], "b", None, DIFF).is_err());
    assert!(read(&[a.clone(), a.clone()], "a", None, DIFF).is_err());
    assert!(read(&all, "0", None, DIFF).is_err(), "the index says another first key");
    assert!(read(&all, "a", Some("c"), DIFF).is_err(), "that is in the next block");
    for content in [value("1", 3, 3), value("1", 10, 5), value("1", 5, 6)] {
        assert!(read(&[record("a", content)], "a", None, DIFF).is_err());
    }
    let Content::Value { json, version, at, place, .. } = good() else { unreachable!() };
    for content in
        [Content::Deleted, Content::Value { json, version, at, place, expiry: None, is_anew: true }]
    {
        assert_eq!(read(&[record("a", content.clone())], "a", None, DIFF), Ok(1));
        assert!(read(&[record("a", content)], "a", None, whole).is_err(), "there is nothing below it");
    }
}

#[test]
fn an_index_of_impossible_blocks_is_refused() {
    let block = |first: &str, offset: u64| BlockEntry { offset, ..entry(first, &[0; 10]) };
    let read = |blocks: &[BlockEntry], end: u64| {
        table::decode_index(&table::encode_index(blocks, None), end).map(|(blocks, _)| blocks)
    };
    let two = [block("a", 0), block("b", 10)];

    assert_eq!(read(&two, 20), Ok(two.to_vec()));
    assert!(read(&two, 21).is_err() && read(&two, 19).is_err());
    assert!(read(&[block("b", 0), block("a", 10)], 20).is_err());
    assert!(read(&[block("a", 0), block("a", 10)], 20).is_err());
    let most = table::BLOCK_BYTES_MAX as u32;
    let packed = |plain| [BlockEntry { is_packed: true, plain, ..block("a", 0) }];
    assert!(read(&packed(most), 10).is_ok());
    for plain in [0, 10, most + 1, u32::MAX] {
        assert!(read(&packed(plain), 10).is_err(), "{plain}");
    }
    assert!(read(&[BlockEntry { plain: 11, ..block("a", 0) }], 10).is_err());
    // It claims four thousand million blocks, and has none.
    assert!(table::decode_index(&u32::MAX.to_be_bytes(), 0).is_err());
}

proptest! {
    /// Whatever bytes there are, also with hashes that fit: no panic, and nothing that is out of order.
    #[test]
    fn hostile_blocks_and_indexes_are_refused_or_in_order(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0_u8..3], 0..200),
        blocks_end in 0_u64..500,
    ) {
        if let Ok((blocks, rest)) = table::decode_index(&bytes, blocks_end) {
            assert!(blocks.windows(2).all(|pair| pair[0].first < pair[1].first));
            let _ = table::decode_ending(rest);
        }
        let _ = table::decode_trailer(&bytes);
        let span = Span { from: Version(0), to: Version(9) };
        for (is_packed, plain) in [(false, bytes.len()), (true, table::BLOCK_BYTES_MAX)] {
            let entry = BlockEntry {
                first: "".into(),
                offset: 0,
                stored: bytes.len() as u32,
                plain: plain as u32,
                is_packed,
                check: table::check_of(&bytes),
            };
            let Ok(mut block) = entry.open(bytes.clone().into(), None, span) else { continue };
            let mut last: Option<Record> = None;
            while let Ok(Some(record)) = block.next() {
                assert!(last.is_none_or(|last| last.key < record.key));
                last = Some(record);
            }
        }
    }
}

/// A block that claims to be small and decompresses to much, or claims to be large and is not.
#[test]
fn a_block_is_as_long_as_its_index_says() {
    let (stored, is_packed) = table::seal(&[0; 10_000]);
    assert!(is_packed);
    let stored = Bytes::from(stored.into_owned());
    let span = Span { from: Version(0), to: Version(9) };

    for plain in [9_999, 10_001, table::BLOCK_BYTES_MAX as u32] {
        let entry = BlockEntry {
            first: "".into(),
            offset: 0,
            stored: stored.len() as u32,
            plain,
            is_packed,
            check: table::check_of(&stored),
        };
        assert!(entry.open(stored.clone(), None, span).is_err());
    }
}
