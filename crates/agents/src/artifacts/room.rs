//! How long artifacts stay, and which of them make room for others.

use std::time::Duration;

/// Limits. They are of one owner's artifacts in one session; those of a trace, of that trace's in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// After how long an artifact is gone; `None` for never: an hour.
    pub ttl: Option<Duration>,
    /// The most bytes of one: 50 MiB.
    pub artifact_bytes_max: u64,
    /// The most bytes of a session's: 500 MiB.
    pub session_bytes_max: u64,
    /// The most bytes of a trace's: 100 MiB.
    pub trace_bytes_max: u64,
    /// The most artifacts of a session: 1,000.
    pub session_artifacts_max: u64,
    /// The most artifacts of a trace: 100.
    pub trace_artifacts_max: u64,
    /// Which ones make room: those used least recently.
    pub makes_room: MakesRoom,
}

/// Which artifacts make room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MakesRoom {
    /// Those that were used least recently: stored, stored again, or read.
    #[default]
    LeastRecentlyUsed,
    /// Those that came first, however they are used.
    Oldest,
    /// None: then only the size of each is limited.
    None,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            ttl: Some(Duration::from_secs(3_600)),
            artifact_bytes_max: 50 << 20,
            session_bytes_max: 500 << 20,
            trace_bytes_max: 100 << 20,
            session_artifacts_max: 1_000,
            trace_artifacts_max: 100,
            makes_room: MakesRoom::default(),
        }
    }
}

/// An artifact that may have to go.
pub(super) struct Candidate {
    pub bytes: u64,
    pub is_of_the_trace: bool,
}

/// Which of these go, so that one of so many bytes may come: the first go first, until there is room or none is left. Those of the trace make room
/// in the trace before any makes room in the session.
pub(super) fn made(kept: &[Candidate], bytes: u64, is_in_a_trace: bool, retention: &Retention) -> Vec<usize> {
    let mut gone = Vec::new();
    if retention.makes_room == MakesRoom::None {
        return gone;
    }
    if is_in_a_trace {
        let of_the_trace = |(_, one): &(usize, &Candidate)| one.is_of_the_trace;
        let trace: Vec<_> = kept.iter().enumerate().filter(of_the_trace).collect();
        gone = fitted(&trace, bytes, retention.trace_artifacts_max, retention.trace_bytes_max);
    }
    let left: Vec<_> = kept.iter().enumerate().filter(|(place, _)| !gone.contains(place)).collect();
    gone.extend(fitted(&left, bytes, retention.session_artifacts_max, retention.session_bytes_max));
    gone
}

fn fitted(kept: &[(usize, &Candidate)], bytes: u64, count_max: u64, bytes_max: u64) -> Vec<usize> {
    let mut count = kept.len() as u64;
    let mut sum = kept.iter().fold(bytes, |sum, (_, one)| sum.saturating_add(one.bytes));
    let mut gone = Vec::new();
    for (place, one) in kept {
        if count < count_max && sum <= bytes_max {
            break;
        }
        (count, sum) = (count - 1, sum.saturating_sub(one.bytes));
        gone.push(*place);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(all: &[(u64, bool)]) -> Vec<Candidate> {
        all.iter()
            .map(|(bytes, is_of_the_trace)| Candidate { bytes: *bytes, is_of_the_trace: *is_of_the_trace })
            .collect()
    }

    #[test]
    fn the_first_go_until_there_is_room() {
        let limits = Retention { session_artifacts_max: 3, session_bytes_max: 100, ..Retention::default() };
        let three = kept(&[(30, false), (30, false), (30, false)]);
        assert_eq!(made(&three[..2], 40, false, &limits), [0; 0]);
        assert_eq!(made(&three, 1, false, &limits), [0]);
        assert_eq!(made(&three[..2], 41, false, &limits), [0]);
        assert_eq!(made(&three, 70, false, &limits), [0, 1]);
        // What has no room at all comes when nothing else is left.
        assert_eq!(made(&three, 101, false, &limits), [0, 1, 2]);
        assert_eq!(
            made(&three, 1, false, &Retention { session_artifacts_max: 0, ..limits.clone() }),
            [0, 1, 2]
        );
        assert_eq!(made(&three, 101, false, &Retention { makes_room: MakesRoom::None, ..limits }), [0; 0]);
    }

    #[test]
    fn a_trace_makes_its_own_room_first() {
        let limits = Retention {
            session_artifacts_max: 3,
            trace_artifacts_max: 1,
            trace_bytes_max: 50,
            ..Retention::default()
        };
        let three = kept(&[(1, false), (1, true), (1, false)]);
        // With that, the session has room too.
        assert_eq!(made(&three, 1, true, &limits), [1]);
        assert_eq!(made(&three, 1, false, &limits), [0]);
        let bytes = Retention { trace_artifacts_max: 9, ..limits };
        assert_eq!(made(&kept(&[(9, false), (20, true), (20, true)]), 20, true, &bytes), [1]);
    }
}
