//! What makes two events the same event, where neither has an id: all that they say, whatever the order of their members.

use std::borrow::Cow;
use std::collections::BTreeMap;

use icecore_log::Hash;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The SHA-256 of JSON values, each with its members sorted by name and without spaces. What is no JSON is taken as it is.
pub fn of(parts: &[&[u8]]) -> Hash {
    let mut digest = Sha256::new();
    for part in parts {
        let mut sorted = Vec::with_capacity(part.len());
        match std::str::from_utf8(part) {
            Ok(text) => write_sorted(&mut sorted, text),
            Err(_) => sorted.extend_from_slice(part),
        }
        digest.update((sorted.len() as u64).to_be_bytes());
        digest.update(sorted);
    }
    Hash(digest.finalize().into())
}

#[derive(Deserialize)]
struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

fn write_sorted(sorted: &mut Vec<u8>, json: &str) {
    let json = json.trim_ascii();
    match json.as_bytes().first() {
        Some(b'{') if json.contains([',', '{', '[']) => {
            if let Ok(Members(members)) = serde_json::from_str(json) {
                sorted.push(b'{');
                for (name, value) in members {
                    // It cannot fail: what is written to is memory.
                    let _ = serde_json::to_writer(&mut *sorted, &name);
                    sorted.push(b':');
                    write_sorted(sorted, value.get());
                    sorted.push(b',');
                }
                sorted.push(b'}');
                return;
            }
        }
        Some(b'[') if json.contains('{') => {
            if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) {
                sorted.push(b'[');
                for item in items {
                    write_sorted(sorted, item.get());
                    sorted.push(b',');
                }
                sorted.push(b']');
                return;
            }
        }
        _ => {}
    }
    sorted.extend_from_slice(json.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_makes_no_difference_and_all_else_does() {
        let same = [
            r#"{"a":1,"b":{"c":[1,{"e":1,"d":2}],"f":null}}"#,
            r#"{"b":{"f":null,"c":[1,{"d":2,"e":1}]},"a":1}"#,
        ];
        assert_eq!(of(&[same[0].as_bytes()]), of(&[same[1].as_bytes()]));
        let others = [
            "{}",
            "[]",
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":true}"#,
            r#"{"b":1}"#,
            "1",
            "null",
            r#""""#,
            same[0],
            "no json",
            "{broken",
        ];
        let all: std::collections::HashSet<_> = others.iter().map(|other| of(&[other.as_bytes()])).collect();
        assert_eq!(all.len(), others.len());
        assert_ne!(of(&[b"1", b"2"]), of(&[b"12"]));
        assert_ne!(of(&[b"\xff"]), of(&[b"\xfe"]));
    }
}
