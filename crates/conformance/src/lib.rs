//! The contract of [`Backend`](icecore_log::Backend) as tests: a backend that passes them is done.
//!
//! ```
//! # #![allow(unused)]
//! #[cfg(test)]
//! mod tests {
//!     use std::sync::Arc;
//!     use icecore_embedded::Memory;
//!
//!     async fn open() -> Arc<Memory> {
//!         Arc::new(Memory::default())
//!     }
//!
//!     icecore_conformance::conformance_tests!(open);
//! }
//! ```
//!
//! `open` gives each case an empty store of its own, as a [`Fixture`]. An `Arc` of a backend is the simplest; a store that
//! can be opened again, or by several handles at once, is a [`Place`]. Where the contract leaves something to a
//! backend, a case first asks [`Capabilities`](icecore_log::Capabilities), and it asks for what they promise: who
//! declares more than `Process` is opened again, and who declares many writers has another handle.
//!
//! | module | contract |
//! | --- | --- |
//! | [`once`] | 1: at most one commit in a slot, whoever races |
//! | [`unknown`] | 2: a create that nobody waited for is decided by its own bytes |
//! | [`durable`] | 3: what was won is there when the store is opened again |
//! | [`fresh`], [`paging`], [`waiting`] | 4: reads see what was won, in order; gaps are refused |
//! | [`deletion`], [`trimming`] | 5: closing and sweeping bring nothing back, and delete nothing else |
//! | [`content`] | 6: bytes in, bytes out; a body is whole or gone |
//! | [`neighbours`] | 7: runs stand alone, or all together |
//! | [`names`] | 8: listing, and names made to collide |
//! | [`blobs`] | 9: blobs |
//! | [`requests`] | invalid requests, shutting down, examining, handles that only read |
//! | [`sequences`] | all of it: generated sequences against a model |
//!
//! What no case can show from outside: that a time-out is reported as `Unknown`, that a crash or a loss of power loses
//! nothing, and that a fail-over is noticed. These need faults of the backend's own kind, and tests of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a case fails by panicking, as tests do: this crate is test code that others call"
)]

pub mod blobs;
pub mod commits;
pub mod content;
pub mod deletion;
pub mod durable;
mod fixture;
pub mod fresh;
mod model;
pub mod names;
pub mod neighbours;
pub mod once;
pub mod paging;
pub mod requests;
pub mod sequences;
mod told;
pub mod trimming;
pub mod unknown;
pub mod waiting;

pub use fixture::{Fixture, Place, run};
pub use told::{Ending, Told};

/// Every case, by its name.
pub mod cases {
    pub use crate::blobs::*;
    pub use crate::content::*;
    pub use crate::deletion::*;
    pub use crate::durable::*;
    pub use crate::fresh::*;
    pub use crate::names::*;
    pub use crate::neighbours::*;
    pub use crate::once::*;
    pub use crate::paging::*;
    pub use crate::requests::*;
    pub use crate::sequences::*;
    pub use crate::trimming::*;
    pub use crate::unknown::*;
    pub use crate::waiting::*;
}

/// Expands to one test a case, each on a store of its own. This is the only list of cases: a backend cannot forget one.
///
/// `$open` is an `async fn() -> impl Fixture`. A test runs on a runtime of its own with two threads, so that tasks race.
#[macro_export]
macro_rules! conformance_tests {
    (@each $open:expr, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                $crate::run($open, $crate::cases::$case);
            }
        )+
    };
    ($open:expr) => {
        $crate::conformance_tests! { @each $open,
            a_slot_is_created_once,
            the_same_bytes_are_won_again,
            the_same_header_is_won_again_and_the_stored_body_stays,
            a_header_is_compared_to_its_last_byte,
            a_run_stops_at_its_first_taken_slot,
            a_run_that_is_there_in_part_is_completed,
            a_run_of_a_thousand_commits_is_applied_in_order,
            racing_tasks_have_one_winner_a_slot,
            racing_runs_have_one_winner,
            racing_copies_of_the_same_bytes_are_all_won,
            racing_appenders_build_one_chain,
            a_create_that_was_given_up_is_decided_by_its_own_bytes,
            a_create_that_was_given_up_never_replaces_another,
            a_read_that_was_given_up_leaves_the_store_as_it_was,
            what_was_won_is_there_after_reopening,
            appending_goes_on_after_reopening,
            a_boundary_is_there_after_reopening,
            what_was_dropped_stays_away_after_reopening,
            concurrent_creates_are_all_there_after_reopening,
            every_handle_sees_what_was_won,
            every_handle_sees_what_was_closed_and_dropped,
            heads_answer_in_the_order_of_the_logs,
            heads_of_two_thousand_logs_are_one_call,
            a_commit_behind_a_missing_predecessor_is_refused,
            a_commit_behind_another_predecessor_is_refused,
            a_taken_slot_is_taken_behind_any_predecessor,
            reads_are_consecutive_and_paged_by_count,
            reads_are_paged_by_bytes,
            the_first_commit_of_a_page_is_returned_whatever_its_size,
            headers_are_read_without_bodies,
            a_read_past_the_head_is_an_empty_page,
            a_reader_beside_a_writer_sees_no_hole,
            a_waiter_is_woken_by_a_later_commit,
            a_waiter_never_sleeps_through_a_commit,
            a_waiter_that_is_behind_does_not_wait,
            a_waiter_gives_up_when_the_time_is_up,
            a_closed_log_without_commits_wakes_nobody,
            a_waiter_is_woken_when_the_store_is_shut_down,
            a_boundary_only_rises,
            the_head_is_never_closed,
            a_closed_slot_is_never_created_again,
            a_stalled_writer_brings_nothing_back,
            a_sweep_deletes_what_is_closed_and_nothing_else,
            a_read_at_or_below_the_boundary_is_an_empty_page_that_says_so,
            a_log_can_begin_behind_a_boundary,
            bodies_of_every_size_are_kept_to_the_byte,
            a_commit_past_the_declared_limit_is_refused_and_nothing_is_written,
            a_dropped_body_leaves_its_header_and_its_neighbours,
            a_commit_is_created_without_a_body,
            one_logs_outcome_says_nothing_of_its_neighbours,
            an_invalid_run_fails_alone,
            all_or_none_is_what_it_says,
            a_listing_has_every_log_once_in_pages_of_any_size,
            a_prefix_lists_what_begins_so_and_nothing_else,
            names_made_to_collide_are_logs_of_their_own,
            a_listing_beside_a_writer_misses_nothing,
            a_blob_is_created_once,
            blobs_are_kept_to_the_byte_and_read_by_ranges,
            blobs_are_listed_by_their_log_in_order,
            a_blob_is_deleted_once_or_more,
            invalid_runs_are_refused_and_nothing_is_written,
            a_foreign_cursor_is_no_panic,
            examining_a_whole_store_finds_no_damage,
            a_store_that_was_shut_down_refuses_everything,
            a_handle_that_only_reads_writes_nothing,
            generated_sequences_answer_as_the_model_does,
        }
    };
}

#[cfg(test)]
mod tests {
    /// A case that is written and not listed would never run anywhere.
    #[test]
    fn every_case_is_in_the_list() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let list = include_str!("lib.rs");
        let mut count = 0;

        for file in std::fs::read_dir(sources).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for line in text.lines().filter(|line| line.ends_with("(fixture: &dyn Fixture) {")) {
                let Some(name) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split('(').next())
                else {
                    continue;
                };
                assert!(list.contains(&format!("\n            {name},\n")), "{name} is not in the list");
                count += 1;
            }
        }

        let listed = list.lines().filter(|line| line.starts_with("            ") && line.ends_with(','));
        assert_eq!(listed.filter(|line| !line.trim().contains(' ')).count(), count);
    }
}
