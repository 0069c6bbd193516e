//! Of bases, trims, holds, and the end of a log.

use crate::mutants::Promise;

const HOLD: &str = "crates/store/src/retention/hold.rs";
const TRIM: &str = "crates/store/src/retention/trim.rs";
const MAINTAIN: &str = "crates/store/src/retention/maintain.rs";

pub const RETENTION: &[Promise] = &[
    Promise {
        promise: "A base changes no document: not its value, its version, its time, or its place among the others.",
        package: "icecore-store",
        test: "a_base_changes_nothing_of_the_state",
        broken: "documents are as new as the base",
        file: "crates/store/src/state/document.rs",
        find: "version: *version,\n                    at: *at,",
        replace: "version: self.version.max(*version),\n                    at: *at,",
    },
    Promise {
        promise: "Behind a trim every id is known again.",
        package: "icecore-store",
        test: "what_is_kept_is_kept_and_the_rest_is_gone",
        broken: "the ids of what goes are not kept",
        file: TRIM,
        find: "        self.keep_ids(through).await?;\n",
        replace: "",
    },
    Promise {
        promise: "What any limit of a trim keeps is kept.",
        package: "icecore-store",
        test: "it_is_trimmed_by_version_age_and_size_and_the_widest_counts",
        broken: "the last limit counts",
        file: "crates/store/src/retention/plan.rs",
        find: "through = through.min(self.behind_the_newest(head, bytes).await?);",
        replace: "through = self.behind_the_newest(head, bytes).await?;",
    },
    Promise {
        promise: "What is held is not trimmed and not deleted.",
        package: "icecore-store",
        test: "what_is_held_is_not_trimmed_until_it_is_let_go",
        broken: "what is held from the last version that would go on goes",
        file: HOLD,
        find: "self.on.is_of(log) && from.0 <= intent.through",
        replace: "self.on.is_of(log) && from.0 < intent.through / 2",
    },
    Promise {
        promise: "Of a hold and a trim that come at once, from processes that may be killed anywhere, not both are promised.",
        package: "icecore-store",
        test: "a_trim_that_is_interrupted_anywhere_loses_nothing_and_goes_on",
        broken: "a hold does not look at what is being trimmed",
        file: HOLD,
        find: "hold.on.is_of(log) && from.0 <= intent.through;",
        replace: "hold.on.is_of(log) && from.0 < intent.through.min(1);",
    },
    Promise {
        promise: "A reader that is on its way is not trimmed from under by its own process.",
        package: "icecore-store",
        test: "a_reader_that_is_on_its_way_is_waited_for",
        broken: "nobody is waited for",
        file: TRIM,
        find: ".filter(|needed| *needed <= through)",
        replace: ".filter(|needed| *needed > through)",
    },
    Promise {
        promise: "A log that was deleted is gone for everybody, and nobody who was slow brings it back.",
        package: "icecore-store",
        test: "a_log_that_was_deleted_is_gone_for_everybody",
        broken: "the log does not end with it",
        file: "crates/store/src/append.rs",
        find: "let flags = Flags { base: true, seal: true };",
        replace: "let flags = Flags { base: true, seal: false };",
    },
    Promise {
        promise: "One process at a time maintains a store.",
        package: "icecore-store",
        test: "one_at_a_time_and_when_it_is_gone_another_goes_on_where_it_was",
        broken: "the lease of another counts for nothing",
        file: MAINTAIN,
        find: "(lease.until <= log.store.now().0)",
        replace: "(lease.until <= i64::MAX)",
    },
    Promise {
        promise: "A base is no use of a log: one that nobody appends to is deleted when its policy says so.",
        package: "icecore-store",
        test: "a_log_that_is_not_used_is_deleted_and_a_base_is_no_use",
        broken: "a base counts as use",
        file: "crates/store/src/retention/policy.rs",
        find: "if !header.flags.base || header.entries.len() > 1 {",
        replace: "if !header.flags.base || !header.entries.is_empty() {",
    },
    Promise {
        promise: "A policy of all logs is none of Icecore's own.",
        package: "icecore-store",
        test: "the_longest_prefix_counts_and_what_is_kept_is_as_it_says",
        broken: "whatever fits counts",
        file: "crates/store/src/retention/policy.rs",
        find: "own.as_ref().is_none_or(",
        replace: "own.as_ref().is_none_or(|_| true) || own.as_ref().is_none_or(",
    },
];
