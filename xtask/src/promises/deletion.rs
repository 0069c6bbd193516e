//! Of deleting what a runtime keeps of a session.

use crate::mutants::Promise;

const DELETION: &str = "crates/agents/src/deletion/mod.rs";
const LISTING: &str = "crates/agents/src/listing.rs";
const TRACES: &str = "crates/agents/src/deletion/traces.rs";
const MEMORY: &str = "crates/agents/src/deletion/memory.rs";
const TRIM: &str = "crates/store/src/retention/trim.rs";

pub const DELETION_OF_SESSIONS: &[Promise] = &[
    Promise {
        promise: "A log that is trimmed to its state has nothing else, and goes on under its name.",
        package: "icecore-store",
        test: "a_log_is_trimmed_to_what_it_is_and_goes_on_under_its_name",
        broken: "the last commit stays",
        file: TRIM,
        find: "let from = if planned.writes_base { self.write_base().await?.version } else { planned.head };",
        replace: "let from = if planned.writes_base { self.write_base().await?.version.previous() } else { planned.head };",
    },
    Promise {
        promise: "What is held is not trimmed to a state either.",
        package: "icecore-store",
        test: "what_is_held_is_not_trimmed_to_what_it_is",
        broken: "a plan does not look at holds",
        file: TRIM,
        find: "        if planned.commits > 0 {\n            self.store.retention()?.check_free",
        replace: "        if planned.commits == 0 {\n            self.store.retention()?.check_free",
    },
    Promise {
        promise: "Deleting a session takes all that is kept of it and of its traces, also from the past, and nothing of another.",
        package: "icecore-agents",
        test: "all_of_a_session_goes_nothing_of_another_and_there_may_be_one_of_its_id_again",
        broken: "what a task was made from names no trace",
        file: TRACES,
        find: "if let Some(within) = named.context_snapshot {",
        replace: "if let Some(within) = named.context_snapshot.filter(|_| false) {",
    },
    Promise {
        promise: "A deletion that was killed anywhere is finished by the next call.",
        package: "icecore-agents",
        test: "killed_at_any_step_the_next_call_takes_the_rest",
        broken: "what leads to something goes first",
        file: DELETION,
        find: "for (done, step) in steps.iter().enumerate() {",
        replace: "for (done, step) in steps.iter().rev().enumerate() {",
    },
    Promise {
        promise: "What another session has of a trace stays when a session is deleted.",
        package: "icecore-agents",
        test: "what_another_session_has_of_a_trace_stays",
        broken: "a conversation of another is not seen",
        file: TRACES,
        find: "Some(_) => is_shared = true,",
        replace: "Some(_) => {}",
    },
    Promise {
        promise: "No session's name of a trace deletes what belongs to nobody, or to another session.",
        package: "icecore-agents",
        test: "what_another_session_has_of_a_trace_stays",
        broken: "the trace of events without one is as any other",
        file: TRACES,
        find: "trace == GLOBAL || ",
        replace: "",
    },
    Promise {
        promise: "Memory whose key may be another session's is not deleted, and is told.",
        package: "icecore-agents",
        test: "memory_whose_key_may_be_another_s_stays_and_is_told",
        broken: "what ends with the session is its own",
        file: DELETION,
        find: "if whose == Whose::Ours {",
        replace: "if matches!(whose, Whose::Ours | Whose::Unsure) {",
    },
    Promise {
        promise: "A key is a session's own only if it can be of no other.",
        package: "icecore-agents",
        test: "only_what_can_be_of_one_session_alone_is_its_own",
        broken: "where the id may end is not looked for behind the first place",
        file: MEMORY,
        find: "(5..parts.len()).filter(is_end).collect()",
        replace: "(5..parts.len()).filter(is_end).take(1).collect()",
    },
    Promise {
        promise: "Of a session of which something is held, nothing is deleted.",
        package: "icecore-agents",
        test: "what_is_held_is_refused_with_the_reason_and_nothing_goes",
        broken: "one log after the other is looked at as it goes",
        file: DELETION,
        find: "        let (steps, deleted) = self.planned(session).await?;\n        for",
        replace: "        let mut deleted = Deleted::default();\n        let steps = self.steps(session, &mut deleted).await?;\n        for",
    },
    Promise {
        promise: "What was deleted is not brought back by whoever repeats it under its id.",
        package: "icecore-agents",
        test: "what_was_deleted_is_not_brought_back_by_whoever_repeats_it",
        broken: "its ids are forgotten",
        file: TRIM,
        find: "        self.keep_ids(through).await?;\n",
        replace: "",
    },
    Promise {
        promise: "A session of a runtime is listed once, as long as something of it is left.",
        package: "icecore-agents",
        test: "a_session_is_listed_once_as_long_as_something_of_it_is_left",
        broken: "each kind lists it again",
        file: LISTING,
        find: "if heads[..place].iter().any(Option::is_some) {",
        replace: "if heads[..place].is_empty() && heads.is_empty() {",
    },
];
