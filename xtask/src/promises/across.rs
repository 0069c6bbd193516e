//! Of transactions over several logs.

use crate::mutants::Promise;

const ACROSS: &str = "crates/store/src/state/across.rs";
const TOGETHER: &str = "crates/store/src/together.rs";

pub const OF_SEVERAL_LOGS: &[Promise] = &[
    Promise {
        promise: "Every condition of every log of a transaction that does not hold is named, whatever is asked of them.",
        package: "icecore-store",
        test: "generated_transactions_over_several_logs_answer_as_the_model_does",
        broken: "those of the first such log only",
        file: "crates/store/src/state/across.rs",
        find: "all = Some(error.facts().fold(before, |all, (name, value)| all.with(name, value)));",
        replace: "all = Some(before);",
    },
    Promise {
        promise: "Changes of several logs are committed to all of them or to none, whatever fails.",
        package: "icecore-store",
        test: "whatever_fails_a_log_has_what_its_neighbours_have",
        broken: "each log stands alone",
        file: TOGETHER,
        find: "{ Mode::AllOrNone } else",
        replace: "{ Mode::Each } else",
    },
    Promise {
        promise: "A transaction relies only on what holds as it is committed, also in logs that it does not change.",
        package: "icecore-store",
        test: "what_was_only_read_must_still_be_so_as_it_is_committed",
        broken: "what is only read is not looked at again",
        file: TOGETHER,
        find: "            let expect = Expect::Version(before.version);\n            let (mut pending",
        replace: "            let expect = if sealed.is_some() { Expect::Version(before.version) } else { Expect::Any };\n            let (mut pending",
    },
    Promise {
        promise: "What a transaction over several logs is shown was so at one moment.",
        package: "icecore-store",
        test: "nothing_is_lost_or_made_by_racing_transactions_beside_appends_and_every_look_is_of_one_moment",
        broken: "states are taken as they were read",
        file: ACROSS,
        find: "if states.0.len() < 2 {",
        replace: "if states.0.len() < 20 {",
    },
    Promise {
        promise: "A transaction over several logs whose outcome is not known in time holds none of them up, and is done once if it is tried again.",
        package: "icecore-store",
        test: "what_is_not_known_in_time_holds_nobody_up_and_lands_whole_or_not_at_all",
        broken: "its logs are kept until it is known",
        file: TOGETHER,
        find: "Sum::Failed(_) if Instant::now() + pause >= deadline => return Err(give_up(turns)),",
        replace: "Sum::Failed(_) if Instant::now() + pause >= deadline + rounds::RESEND_MAX * 600 => return Err(give_up(turns)),",
    },
    Promise {
        promise: "A transaction over several logs gets its turn beside others that never stop appending.",
        package: "icecore-store",
        test: "it_gets_its_turn_beside_others_that_never_stop_appending",
        broken: "appends of the process go on joining",
        file: ACROSS,
        find: "            turn.close().await?;\n",
        replace: "            let _ = turn;\n",
    },
    Promise {
        promise: "A panic below a transaction over several logs leaves none of them locked.",
        package: "icecore-store",
        test: "after_a_panic_below_the_outcome_is_unknown_and_the_logs_go_on",
        broken: "the part that a log has of it is sent alone",
        file: "crates/store/src/turn.rs",
        find: "Some(in_flight) if in_flight.is_together => {",
        replace: "Some(in_flight) if in_flight.is_together && in_flight.sent > 9 => {",
    },
    Promise {
        promise: "What was decided on a look at several logs is committed only if none of them went on since, however long that took.",
        package: "icecore-store",
        test: "what_was_decided_apart_is_committed_only_behind_what_was_seen",
        broken: "where they ended is not compared",
        file: ACROSS,
        find: "went_on = !now.ends().eq(states.ends());",
        replace: "went_on = now.ends().count() != states.ends().count();",
    },
    Promise {
        promise: "Processes that are killed with -9 in the middle of transactions over several logs leave all of each, or nothing.",
        package: "icecore",
        test: "two_movers_that_are_killed_leave_all_or_none_on_sqlite",
        broken: "each log stands alone",
        file: TOGETHER,
        find: "{ Mode::AllOrNone } else",
        replace: "{ Mode::Each } else",
    },
    Promise {
        promise: "`icecore commit` reads all lines before it opens a store: a bad one is named, and nothing is written.",
        package: "icecore-cli",
        test: "a_bad_line_is_named_and_no_store_is_made",
        broken: "what does not belong to a step is passed over",
        file: "crates/cli/src/commit.rs",
        find: "        self.check_members(step)?;\n",
        replace: "",
    },
];
