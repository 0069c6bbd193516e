//! Snapshots that follow each other say together what happened to the documents.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use icecore_embedded::Memory;
use icecore_log::{ErrorKind, Timestamp, Version};
use proptest::prelude::*;

use super::support::*;
use crate::Store;
use crate::snapshot::{Content, Merged, Place, Record, over};

/// One change of a document, a commit each: put (or patched), or deleted.
type Change = (u8, bool);

/// What is in the state: the commit that put it first, and the one that changed it last.
type Live = BTreeMap<u8, (u64, u64)>;

fn apply(state: &mut Live, version: u64, (key, is_put): Change) {
    if !is_put {
        state.remove(&key);
        return;
    }
    state.entry(key).and_modify(|live| live.1 = version).or_insert((version, version));
}

fn content(version: u64, place: u64, is_anew: bool) -> Content {
    Content::Value {
        json: format!("{version}").into(),
        version: Version(version),
        at: Timestamp(version as i64),
        place: Place { version: place, index: 0 },
        expiry: None,
        is_anew,
    }
}

/// What a snapshot of these versions says: told from the changes, and not from other records.
fn diff(changes: &[Change], from: u64, to: u64) -> Model {
    let mut model = Model::new();
    for key in changes.iter().map(|(key, _)| *key) {
        let of_key = (from + 1..=to).filter(|version| changes[*version as usize - 1].0 == key);
        let of_key: Vec<(u64, bool)> =
            of_key.map(|version| (version, changes[version as usize - 1].1)).collect();
        let Some(&(last, is_put)) = of_key.last() else { continue };
        let after_delete = of_key.iter().rposition(|(_, is_put)| !is_put);
        let is_anew = after_delete.is_some() && from > 0;
        // The first put since it was deleted; or since `from`.
        let said = if is_put {
            content(last, of_key[after_delete.map_or(0, |at| at + 1)].0, is_anew)
        } else {
            Content::Deleted
        };
        if from > 0 || said != Content::Deleted {
            model.insert(format!("k{key}"), said);
        }
    }
    model
}

fn state_at(changes: &[Change], version: u64) -> Model {
    let mut state = Live::new();
    (1..)
        .zip(changes)
        .take(version as usize)
        .for_each(|(version, change)| apply(&mut state, version, *change));
    state
        .iter()
        .map(|(key, (place, version))| (format!("k{key}"), content(*version, *place, false)))
        .collect()
}

async fn merge(store: &Store, models: &[((u64, u64), Model)], first: Bound<&str>) -> Vec<Record> {
    let mut cursors = Vec::new();
    for (span, model) in models {
        let info = write(&store.0, *span, model, (30, 90)).await;
        cursors.push(open(&store.0, &info).await.cursor(first));
    }
    let mut merged = Merged::new(cursors).unwrap();
    let mut found = Vec::new();
    while let Some(record) = merged.next(&*store.0.backend).await.unwrap() {
        found.push(record);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A log is cut anywhere, also more than twice: merged, the pieces say what one snapshot over all of it would.
    #[test]
    fn pieces_say_together_what_one_would(
        changes in proptest::collection::vec((0_u8..6, prop::bool::weighted(0.7)), 2..60),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        begin in prop_oneof![Just(0), any::<prop::sample::Index>().prop_map(|index| 1 + index.index(30))],
        first in 0_u8..6,
    ) {
        let to = changes.len() as u64;
        let begin = (begin as u64).min(to - 1);
        let mut ends: Vec<u64> = cuts.iter().map(|cut| cut.index(changes.len()) as u64).filter(|cut| *cut > begin).collect();
        ends.extend([begin, to]);
        ends.sort_unstable();
        ends.dedup();
        let pieces: Vec<_> =
            ends.windows(2).map(|pair| ((pair[0], pair[1]), diff(&changes, pair[0], pair[1]))).collect();
        let expected = diff(&changes, begin, to);
        if begin == 0 {
            assert_eq!(expected, state_at(&changes, to), "the model agrees with itself");
        }
        run(async {
            let store = Store::new(Arc::new(Memory::default()));

            assert_eq!(merge(&store, &pieces, Bound::Unbounded).await, records(&expected));

            let first = format!("k{first}");
            let rest: Model = expected.range(first.clone()..).map(|(key, said)| (key.clone(), said.clone())).collect();
            assert_eq!(merge(&store, &pieces, Bound::Included(&first)).await, records(&rest));
        });
    }
}

#[test]
fn a_document_that_only_changed_keeps_its_place_and_one_that_came_anew_does_not() {
    let old = || record("a", content(2, 1, false));
    let old_anew = || record("a", content(2, 1, true));
    let gone = || record("a", Content::Deleted);
    let new = || record("a", content(9, 9, false));
    let anew = || record("a", content(9, 8, true));

    assert_eq!(over(None, new()), new());
    assert_eq!(over(None, gone()), gone());
    assert_eq!(over(Some(old()), gone()), gone());
    assert_eq!(over(Some(old()), new()), record("a", content(9, 1, false)));
    assert_eq!(over(Some(old_anew()), new()), record("a", content(9, 1, true)));
    assert_eq!(over(Some(old()), anew()), anew());
    assert_eq!(over(Some(gone()), new()), record("a", content(9, 9, true)));
    assert_eq!(over(Some(gone()), anew()), anew());
}

#[tokio::test]
async fn snapshots_with_a_gap_between_them_are_not_merged() {
    let store = Store::new(Arc::new(Memory::default()));
    let mut cursors = Vec::new();
    for span in [(0, 4), (5, 9)] {
        let info = write(&store.0, span, &Model::new(), (30, 90)).await;
        cursors.push(open(&store.0, &info).await.cursor(Bound::Unbounded));
    }

    assert_eq!(Merged::new(cursors).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(Merged::new(Vec::new()).unwrap().next(&*store.0.backend).await.unwrap(), None);
}
