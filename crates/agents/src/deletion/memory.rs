//! Whose memory it is. A runtime joins ids to keys with `:` and does not escape them: so one key may be of several sessions, and only what
//! can be of one alone is taken for its own.

use crate::names;

/// How the keys of a session's values begin; those of its conversation are `TENANT:USER:SESSION`.
const VALUES: [&str; 2] = ["kv", "v1"];

/// Whose memory it is, as far as its key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    /// Of this session, or of another, whose ids have a `:`.
    Unsure,
    /// The key is too long, or no text, and is not stored.
    Hashed,
    Others,
}

pub(super) fn whose(key: &str, session: &[u8]) -> Whose {
    if names::is_hashed(key) {
        return Whose::Hashed;
    }
    // What is no text stands in no key.
    let Ok(session) = std::str::from_utf8(session) else { return Whose::Others };
    let parts: Vec<&str> = key.split(':').collect();
    let ends = ends(&parts);
    // The session's id stands behind a tenant's and a user's, which may be of several parts each.
    let first = if is_of_values(&parts) && !ends.is_empty() { 4 } else { 2 };
    let ends = if ends.is_empty() { vec![parts.len()] } else { ends };
    if ends == [first + 1] {
        return if parts[first] == session { Whose::Ours } else { Whose::Others };
    }
    let may_be = |end: usize| (first..end).any(|from| parts[from..end].join(":") == session);
    if ends.into_iter().any(may_be) { Whose::Unsure } else { Whose::Others }
}

fn is_of_values(parts: &[&str]) -> bool {
    parts.starts_with(&VALUES)
}

/// Where the session's id may end in the key of a value: `kv:v1:TENANT:USER:SESSION:session:NAMESPACE:KEY` or
/// `kv:v1:TENANT:USER:SESSION:task:TASK:NAMESPACE:KEY`.
fn ends(parts: &[&str]) -> Vec<usize> {
    if !is_of_values(parts) {
        return Vec::new();
    }
    let is_end = |at: &usize| match parts[*at] {
        "session" => parts.len() >= at + 3,
        "task" => parts.len() >= at + 4,
        _ => false,
    };
    (5..parts.len()).filter(is_end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_of_one_session_alone_is_its_own() {
        let cases = [
            ("acme:ada:s-1", "s-1", Whose::Ours),
            ("default:anonymous:s-1", "s-1", Whose::Ours),
            ("acme:ada:s-10", "s-1", Whose::Others),
            ("acme:s-1:other", "s-1", Whose::Others),
            ("s-1", "s-1", Whose::Others),
            ("ada:s-1", "s-1", Whose::Others),
            // Of tenant `a`, user `b:c`, or of tenant `a:b`, user `c`; or of session `c:s-1`.
            ("a:b:c:s-1", "s-1", Whose::Unsure),
            ("a:b:c:s-1", "c:s-1", Whose::Unsure),
            ("a:b:c:s-1", "b:c:s-1", Whose::Others),
            ("kv:v1:acme:ada:s-1:session:notes:cart", "s-1", Whose::Ours),
            ("kv:v1:acme:ada:s-1:session:tool:search:a:b", "s-1", Whose::Ours),
            ("kv:v1:acme:ada:s-1:task:t-1:tool:search:k", "s-1", Whose::Ours),
            ("kv:v1:acme:ada:s-2:session:tool:s-1:s-1", "s-1", Whose::Others),
            // Of session `s-1`, or of session `s-1:session:notes` with another key.
            ("kv:v1:acme:ada:s-1:session:notes:session:a:b", "s-1", Whose::Unsure),
            ("kv:v1:acme:ada:s-1:session:notes:session:a:b", "s-1:session:notes", Whose::Unsure),
            ("kv:v1:acme:ada:x:s-1:session:notes:cart", "s-1", Whose::Unsure),
            ("kv:v1:acme:ada:x:s-1:session:notes:cart", "x:s-1", Whose::Unsure),
            ("kv:v1:acme:ada:x:s-1:session:notes:cart", "s-2", Whose::Others),
            // A tenant that is called so.
            ("kv:v1:s-1", "s-1", Whose::Ours),
            ("kv:ada:s-1", "s-1", Whose::Ours),
            ("~5feceb66", "s-1", Whose::Hashed),
            ("", "s-1", Whose::Others),
            ("::", "", Whose::Ours),
        ];
        for (key, session, wanted) in cases {
            assert_eq!(whose(key, session.as_bytes()), wanted, "{key} of {session}");
        }
        assert_eq!(whose("a:b:\u{fffd}", b"\xff"), Whose::Others);
    }
}
