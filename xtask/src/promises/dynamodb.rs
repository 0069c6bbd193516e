//! Of the backend in DynamoDB.

use crate::mutants::Promise;

const API: &str = "crates/backends/dynamodb/src/api.rs";
const ATOMIC: &str = "crates/backends/dynamodb/src/atomic.rs";
const CREATE: &str = "crates/backends/dynamodb/src/create.rs";
const ITEM: &str = "crates/backends/dynamodb/src/item.rs";
const SLOT: &str = "crates/backends/dynamodb/src/slot.rs";
const TRIM: &str = "crates/backends/dynamodb/src/trim.rs";

pub const DYNAMODB: &[Promise] = &[
    Promise {
        promise: "On DynamoDB, a lost answer is unknown, and the same bytes decide.",
        package: "icecore-dynamodb",
        test: "what_is_not_answered_in_time_is_unknown_and_the_same_bytes_decide",
        broken: "only the last try of a request counts",
        file: API,
        find: "in_doubt |= matches!(answer, Err(Fault::Doubt(_)));",
        replace: "in_doubt |= answer.is_ok();",
    },
    Promise {
        promise: "On DynamoDB, a writer that was stopped does not win a slot that was swept meanwhile.",
        package: "icecore-dynamodb",
        test: "a_stalled_writer_does_not_win_a_slot_that_was_swept",
        broken: "nobody looks at the boundary again",
        file: CREATE,
        find: "if first > read::boundary(inner, &run.log, DOING, deadline).await? {",
        replace: "if first > read::boundary(inner, &run.log, DOING, deadline).await? || first > Version::ZERO {",
    },
    Promise {
        promise: "On DynamoDB, nothing is deleted before the time of grace is over, by the service's clock.",
        package: "icecore-dynamodb",
        test: "nothing_is_deleted_before_the_time_of_grace",
        broken: "what is closed is deleted at once",
        file: TRIM,
        find: "if Duration::from_secs(closed.now.saturating_sub(at)) < needed {",
        replace: "if Duration::from_secs(closed.now.saturating_sub(at)) > needed {",
    },
    Promise {
        promise: "On DynamoDB, the first commit of a log does not come after its close.",
        package: "icecore-dynamodb",
        test: "a_first_commit_that_comes_after_a_close_is_closed",
        broken: "the boundary is not looked at where a log begins",
        file: SLOT,
        find: "attribute_not_exists(c) OR c < :v",
        replace: "attribute_not_exists(c) OR c > :v",
    },
    Promise {
        promise: "On DynamoDB, a table that may delete commits by itself is refused.",
        package: "icecore-dynamodb",
        test: "a_table_that_deletes_commits_by_itself_is_refused",
        broken: "the lengths of commits are not among what is looked for",
        file: ITEM,
        find: "[\"c\", \"f\", \"g\", \"m\", \"n\", \"q\", \"t\"]",
        replace: "[\"c\", \"f\", \"g\", \"m\", \"o\", \"q\", \"t\"]",
    },
    Promise {
        promise: "On DynamoDB, what was dropped leaves no part behind, whatever became of the answers.",
        package: "icecore-dynamodb",
        test: "a_lost_answer_leaves_no_part_of_what_was_dropped",
        broken: "the parts of the body are left",
        file: TRIM,
        find: ".filter(|sort| !is_kept(sort))",
        replace: ".filter(|sort| is_kept(sort))",
    },
    Promise {
        promise: "On DynamoDB, what one transaction does not take is refused before anything is sent.",
        package: "icecore-dynamodb",
        test: "all_or_none_ends_where_the_services_transactions_do",
        broken: "only the bytes are counted",
        file: ATOMIC,
        find: "if actions <= ACTIONS_MAX && bytes",
        replace: "if actions <= 2 * ACTIONS_MAX && bytes",
    },
];
