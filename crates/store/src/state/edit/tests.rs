use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Words of a small made-up language, some of them far more often than others: about as regular as chat.
struct Talk(u64);

impl Talk {
    fn number(&mut self, below: u64) -> u64 {
        // Source: xorshift64*, Vigna, 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    fn word(&mut self) -> String {
        const SYLLABLES: [&str; 24] = [
            "ta", "re", "mi", "so", "ul", "en", "ki", "va", "dor", "sel", "ban", "tur", "ing", "ost", "ple",
            "cha", "wen", "gri", "zo", "far", "nu", "hel", "bri", "lon",
        ];
        let rank = (1_u64 << self.number(12)) + self.number(1 << 6);
        let syllables = 1 + rank % 3;
        (0..syllables).map(|at| SYLLABLES[((rank * 7 + at * rank) % 24) as usize]).collect()
    }

    fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }

    fn turn(&mut self, id: u64) -> Value {
        json!({
            "id": format!("turn-{id:06}"),
            "at": format!("2026-11-25T09:{:02}:{:02}Z", self.number(60), self.number(60)),
            "user": self.text(60),
            "assistant": self.text(220),
            "tools": [{"name": self.word(), "arguments": {"query": self.text(6)}}],
        })
    }

    fn turns(&mut self, bytes: usize) -> Vec<Value> {
        let (mut turns, mut length) = (Vec::new(), 0);
        while length < bytes {
            turns.push(self.turn(turns.len() as u64));
            length += turns[turns.len() - 1].to_string().len() + 1;
        }
        turns
    }
}

fn document(turns: &[Value]) -> Vec<u8> {
    serde_json::to_vec(turns).unwrap()
}

/// Changes two of the words of a document, far from each other.
fn scattered(bytes: &[u8]) -> Vec<u8> {
    let mut new = bytes.to_vec();
    for part in [3, 8] {
        let at = bytes.len() / 10 * part;
        new.splice(at..at + 3, *b"XYZW");
    }
    new
}

fn bytes_of(old: &[u8], new: &[u8]) -> usize {
    let edit = encode(old, Version(7), new, b"").expect("it pays");
    let mut value = Bytes::copy_from_slice(old);
    Edit::parse(&edit).unwrap().apply(&mut value, b"").unwrap();
    assert!(value == new);
    edit.len()
}

/// Bounds: what was measured here, and a quarter more. Two settings of the compressor have silent cliffs, at 64 KiB and at 1 MiB.
#[test]
fn a_difference_is_small_for_each_shape_of_change() {
    let mut talk = Talk(42);
    let small = document(&talk.turns(2_600)[..1]);
    let middle = talk.turns(107_000);
    let large = talk.turns(2_000_000);
    let next = talk.turn(100_000);
    let with = |turns: &[Value]| document(&[turns, std::slice::from_ref(&next)].concat());
    let counted =
        |count: usize, turns: &[Value]| serde_json::to_vec(&json!({"count": count, "turns": turns})).unwrap();
    let appended: Vec<Value> = middle.iter().cloned().chain([next.clone()]).collect();
    let shapes = [
        ("2.6 KB, two small edits", bytes_of(&small, &scattered(&small)), 50),
        ("107 KB, two scattered edits", bytes_of(&document(&middle), &scattered(&document(&middle))), 300),
        ("2 MB, two scattered edits", bytes_of(&document(&large), &scattered(&document(&large))), 200),
        ("107 KB, a turn appended", bytes_of(&document(&middle), &with(&middle)), 600),
        ("4 KB, a turn appended", bytes_of(&document(&middle[..2]), &with(&middle[..2])), 600),
        (
            "107 KB, a turn appended and a counter before it",
            bytes_of(&counted(41, &middle), &counted(42, &appended)),
            650,
        ),
        ("2 MB, a turn appended", bytes_of(&document(&large), &with(&large)), 600),
        ("rolling 50 turns", bytes_of(&document(&middle[..50]), &with(&middle[1..50])), 650),
    ];
    for (what, bytes, bound) in shapes {
        assert!(bytes <= bound, "{what}: {bytes} bytes");
    }
}

/// What was appended as an event, and then put into a document in the same entry, is stored once.
#[test]
fn what_stands_beside_is_not_said_again() {
    let mut talk = Talk(5);
    let turns = talk.turns(20_000);
    let next = talk.turn(1_000);
    let (old, new) = (document(&turns), document(&[&turns[..], std::slice::from_ref(&next)].concat()));
    let beside = next.to_string();
    let edit = encode(&old, Version(1), &new, beside.as_bytes()).unwrap();
    assert!(edit.len() < 60, "{} bytes", edit.len());
    let (edit, mut value) = (Edit::parse(&edit).unwrap(), Bytes::from(old));
    assert!(edit.apply(&mut value, b"something else").is_err() || value != new);
    let mut value = Bytes::from(document(&turns));
    edit.apply(&mut value, beside.as_bytes()).unwrap();
    assert!(value == new);
}

#[test]
fn what_does_not_pay_is_put_whole() {
    let mut talk = Talk(1);
    let (a, b) = (talk.text(200), talk.text(20));
    assert_eq!(encode(a.as_bytes(), Version(1), b.as_bytes(), b""), None, "it is small");
    let noise: Vec<u8> = (0..2_000).map(|_| talk.number(256) as u8).collect();
    assert_eq!(encode(a.as_bytes(), Version(1), &noise, b""), None, "it has nothing in common");
    assert_eq!(encode(b"", Version(1), a.as_bytes(), b""), None, "there is nothing before it");
}

#[test]
fn an_edit_of_another_value_is_refused() {
    let old = Talk(3).text(300);
    let edit =
        Edit::parse(&encode(old.as_bytes(), Version(1), format!("{old}!").as_bytes(), b"").unwrap()).unwrap();
    assert_eq!(edit.apply(&mut Bytes::from(format!("{old}?")), b"").unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Pieces of an old value among new ones.
fn pair() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let old = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..3_000),
        prop::collection::vec(b'a'..b'c', 1..12_000),
    ];
    (old, prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..3_000_usize), 0..6))
        .prop_map(|(old, pieces)| {
            let mut new = Vec::new();
            for (is_old, at, length) in pieces {
                let at = at.index(old.len());
                let length = length.min(old.len() - at);
                if is_old {
                    new.extend_from_slice(&old[at..at + length]);
                } else {
                    new.extend(old[at..at + length].iter().map(|byte| byte.wrapping_mul(31) ^ 5));
                }
            }
            (old, new)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn an_edit_makes_exactly_the_new_value((old, new) in pair()) {
        if let Some(bytes) = encode(&old, Version(9), &new, b"") {
            prop_assert!(bytes.len() < new.len());
            let edit = Edit::parse(&bytes).unwrap();
            prop_assert_eq!(edit.version, Version(9));
            let mut value = Bytes::from(old.clone());
            let shared = value.clone();
            edit.apply(&mut value, b"").unwrap();
            prop_assert!(value == new);
            prop_assert!(shared == old, "what others hold is not changed");
            let mut alone = Bytes::from(old);
            drop(shared);
            edit.apply(&mut alone, b"").unwrap();
            prop_assert!(alone == new);
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_or_another_value((old, new) in pair(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        if let Some(bytes) = encode(&old, Version(9), &new, b"") {
            let mut changed = bytes.to_vec();
            let at = at.index(changed.len());
            changed[at] = byte;
            for hostile in [Bytes::from(changed), bytes.slice(..cut.index(bytes.len()))] {
                if let Ok(edit) = Edit::parse(&hostile) {
                    let mut value = Bytes::from(old.clone());
                    if edit.apply(&mut value, b"").is_ok() {
                        prop_assert!(value.len() <= Entry::BYTES_MAX);
                    } else {
                        prop_assert!(value == old, "what failed has changed nothing");
                    }
                }
            }
        }
    }
}
