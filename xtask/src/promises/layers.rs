//! Of the layers around backends.

use crate::mutants::Promise;

const RETRY: &str = "crates/layers/src/retry/mod.rs";
const POLICY: &str = "crates/layers/src/retry/policy.rs";
const SERIES: &str = "crates/layers/src/metrics/series.rs";

pub const LAYERS: &[Promise] = &[
    Promise {
        promise: "What is tried again and may have been written stays unknown, whatever the later tries say, until one is seen to have won or lost.",
        package: "icecore-layers",
        test: "an_unknown_outcome_stays_unknown_whatever_the_later_tries_say",
        broken: "the last error is told",
        file: RETRY,
        find: "if in_doubt && error.kind() != ErrorKind::Unknown {",
        replace: "if false {",
    },
    Promise {
        promise: "A slot that is closed while a create of it is in doubt is unknown, so that nobody writes the same again behind it.",
        package: "icecore-layers",
        test: "a_slot_that_is_closed_while_in_doubt_is_unknown",
        broken: "closed is the answer, whatever came before",
        file: RETRY,
        find: "End::Closed(_) | End::Gap if !self.in_doubt && self.won <= last.won => return last,",
        replace: "End::Closed(_) | End::Gap if true => return last,",
    },
    Promise {
        promise: "A blob whose answer was lost is the caller's if it has the same bytes, and nobody else's is taken for it.",
        package: "icecore-layers",
        test: "a_blob_whose_answer_was_lost_is_ours_if_it_has_our_bytes",
        broken: "any blob that is there is taken for the caller's",
        file: RETRY,
        find: "return Ok(found == bytes);",
        replace: "return Ok(!found.is_empty());",
    },
    Promise {
        promise: "While one log of a create is tried again, no other waits for it.",
        package: "icecore-layers",
        test: "who_was_answered_waits_for_no_neighbour",
        broken: "it is sent again as long as one of its logs was refused",
        file: RETRY,
        find: "answers.iter().all(|answer| undecided(answer).is_some());",
        replace: "answers.iter().any(|answer| undecided(answer).is_some());",
    },
    Promise {
        promise: "Nothing but what is transient is tried again.",
        package: "icecore-layers",
        test: "what_is_not_transient_is_the_answer",
        broken: "what is refused is tried again",
        file: RETRY,
        find: "matches!(kind, ErrorKind::Unavailable | ErrorKind::Unknown)",
        replace: "matches!(kind, ErrorKind::Unavailable | ErrorKind::Unknown | ErrorKind::Refused)",
    },
    Promise {
        promise: "Trying again ends: after so many tries, so much time, and a budget that all calls share.",
        package: "icecore-layers",
        test: "tries_and_time_and_the_budget_of_all_calls_are_bounded",
        broken: "nothing is paid for a further try",
        file: POLICY,
        find: "self.change(|left| left.checked_sub(COST))",
        replace: "self.change(Some)",
    },
    Promise {
        promise: "Metrics tell a create that was won from one that was taken, refused, or is unknown, log by log.",
        package: "icecore-layers",
        test: "creates_are_counted_by_what_became_of_each_run",
        broken: "what failed counts as taken",
        file: SERIES,
        find: "ENDS.len() + place(error.kind())",
        replace: "1",
    },
    Promise {
        promise: "A call whose caller left is counted as cancelled, and its time is in no histogram.",
        package: "icecore-layers",
        test: "what_is_not_answered_is_in_flight_and_then_cancelled_and_in_no_bucket",
        broken: "nobody counts it",
        file: SERIES,
        find: "if !self.is_answered {",
        replace: "if false {",
    },
];
