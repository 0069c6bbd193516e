//! Of merges into documents.

use crate::mutants::Promise;

const DOCUMENT: &str = "crates/store/src/state/document.rs";
const DECIMAL: &str = "crates/store/src/state/decimal.rs";
const PLACES: &str = "crates/store/src/state/places.rs";
const TRANSACT: &str = "crates/store/src/state/transact.rs";

pub const MERGES: &[Promise] = &[
    Promise {
        promise: "Merges that are made at once are all there, share commits, and look at nothing.",
        package: "icecore-store",
        test: "merges_that_are_made_at_once_share_commits_and_look_at_nothing",
        broken: "of those that share a commit only the first are done",
        file: DOCUMENT,
        find: "=> return self.merge(&key, &merge, place, at),",
        replace: "=> return if place.index < 8 { self.merge(&key, &merge, place, at) } else { Ok(true) },",
    },
    Promise {
        promise: "A merge that was done is known by its id, whatever is in its document now.",
        package: "icecore-store",
        test: "a_merge_that_was_done_is_known_by_its_id_whatever_is_there_now",
        broken: "what cannot be merged now is refused before the id is looked up",
        file: TRANSACT,
        find: "self.has_been_done(changes).await?.is_some()",
        replace: "self.has_been_done(changes).await?.is_none()",
    },
    Promise {
        promise: "Sums are exact, whatever digits numbers have.",
        package: "icecore-store",
        test: "a_sum_has_the_digits_that_columns_on_paper_give",
        broken: "what is carried is dropped",
        file: DECIMAL,
        find: "(sum[place + 1], carry) = (digit % 10, digit / 10);",
        replace: "(sum[place + 1], carry) = (digit % 10, 0);",
    },
    Promise {
        promise: "A short number that stands for more digits than may be is refused before it is written out.",
        package: "icecore-store",
        test: "a_short_text_that_stands_for_many_digits_is_no_number_to_add",
        broken: "digits behind the point are not counted",
        file: DECIMAL,
        find: "if scale > digits_max as i64 || before",
        replace: "if before",
    },
    Promise {
        promise: "A merge into what it cannot be merged into changes nothing, in every reader alike, and the history says so.",
        package: "icecore-store",
        test: "a_merge_in_vain_is_seen_in_the_history_and_nowhere_else",
        broken: "the document counts as changed",
        file: DOCUMENT,
        find: "if let Ok(true) = done {",
        replace: "if done.is_ok() {",
    },
    Promise {
        promise: "What is remembered of the places in a document makes no difference to what merges come to.",
        package: "icecore-store",
        test: "merges_one_after_the_other_come_to_what_the_model_says",
        broken: "what encloses a change does not grow with it",
        file: PLACES,
        find: "self.at.end = if is_behind || is_around {",
        replace: "self.at.end = if is_behind {",
    },
    Promise {
        promise: "An old state in memory refuses no merge that fits now.",
        package: "icecore-store",
        test: "an_old_state_in_memory_refuses_nothing_that_fits_now",
        broken: "whoever doubts looks only at what is in memory",
        file: TRANSACT,
        find: "let state = self.with(Consistency::Strong).documents_of(&keys).await?;",
        replace: "let state = self.with(Consistency::Eventual).documents_of(&keys).await?;",
    },
    Promise {
        promise: "Reducers of one's own that race lose no update, and what they made is read without them.",
        package: "icecore-store",
        test: "a_reducer_of_ones_own_loses_no_update_and_what_it_made_is_read_without_it",
        broken: "it is run on the state as it was at first",
        file: "crates/store/src/state/reduce.rs",
        find: "self.transact(|state| Ok(Changes::new().put(key, self.reduced(state, key, reducer, operand)?))).await",
        replace: "let before = self.state().await?;\n        self.transact(|_| Ok(Changes::new().put(key, self.reduced(&before, key, reducer, operand)?))).await",
    },
    Promise {
        promise: "On the command line what cannot be merged is refused before anything is written.",
        package: "icecore-cli",
        test: "merges_are_made_with_receipts_and_told_by_the_history_also_those_in_vain",
        broken: "it does not look first",
        file: "crates/cli/src/change.rs",
        find: "if args.how.expect.or(args.how.expect_document).is_none() {",
        replace: "if false {",
    },
];
