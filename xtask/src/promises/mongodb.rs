//! Of the backend in MongoDB.

use crate::mutants::Promise;

const CONFIG: &str = "crates/backends/mongodb/src/config.rs";
const CREATE: &str = "crates/backends/mongodb/src/create.rs";
const GROUP: &str = "crates/backends/mongodb/src/group.rs";
const HEARD: &str = "crates/backends/mongodb/src/heard.rs";
const LEFT: &str = "crates/backends/mongodb/src/left.rs";
const TOGETHER: &str = "crates/backends/mongodb/src/together.rs";

pub const MONGODB: &[Promise] = &[
    Promise {
        promise: "On MongoDB, a lost answer is unknown, and the same bytes decide.",
        package: "icecore-mongodb",
        test: "a_lost_answer_is_unknown_and_the_same_bytes_decide",
        broken: "a request that was not answered in time counts as not written",
        file: CREATE,
        find: "                    self.in_doubt = true;\n                    return Err(undecided(\"the server did not answer in time\"));",
        replace: "                    return Err(Fault::late().reading(DOING));",
    },
    Promise {
        promise: "On MongoDB, what only the primary has is not won until a majority has it.",
        package: "icecore-mongodb",
        test: "what_no_majority_has_is_not_won_until_one_has",
        broken: "one member is waited for",
        file: CONFIG,
        find: "let mut concern = WriteConcern::majority();",
        replace: "let mut concern = WriteConcern::nodes(1);",
    },
    Promise {
        promise: "What was acknowledged by a single MongoDB server survives its death.",
        package: "icecore-mongodb",
        test: "what_a_server_alone_acknowledged_survives_its_death",
        broken: "the journal is not waited for",
        file: CONFIG,
        find: "concern.journal = Some(true);",
        replace: "concern.journal = Some(false);",
    },
    Promise {
        promise: "On MongoDB, a writer that stalled while its slot was closed and deleted wins nothing.",
        package: "icecore-mongodb",
        test: "a_writer_that_stalled_while_its_slot_was_closed_and_swept_wins_nothing",
        broken: "it is not asked how long ago the writer looked",
        file: CREATE,
        find: "if settings.is_stale(seen) {",
        replace: "if settings.is_stale(seen) && piece.is_empty() {",
    },
    Promise {
        promise: "On MongoDB, nothing of a transaction is seen before all of it is.",
        package: "icecore-mongodb",
        test: "nothing_of_a_transaction_is_seen_before_all_of_it_is",
        broken: "the commits are inserted beside the transaction",
        file: TOGETHER,
        find: "inner.place.commits.insert_many(&documents).session(session).await?;",
        replace: "inner.place.commits.insert_many(&documents).await?;",
    },
    Promise {
        promise: "On MongoDB, the logs of a transaction that nobody goes on with are free again in seconds, and who does go on with it loses nothing.",
        package: "icecore-mongodb",
        test: "logs_of_a_transaction_that_nobody_goes_on_with_are_free_again_in_seconds",
        broken: "what was seen before is forgotten, so that nothing is ended",
        file: LEFT,
        find: "before = idle;",
        replace: "before = Idle::new();",
    },
    Promise {
        promise: "On MongoDB, a user that may only read and write frees logs of such a transaction.",
        package: "icecore-mongodb",
        test: "a_user_that_may_only_read_and_write_ends_transactions_that_nobody_goes_on_with",
        broken: "transactions of all users are looked at, which takes a right",
        file: LEFT,
        find: "{\"idleSessions\": true}",
        replace: "{\"idleSessions\": true, \"allUsers\": true}",
    },
    Promise {
        promise: "On MongoDB, a waiter is told of what another process creates.",
        package: "icecore-mongodb",
        test: "a_waiter_is_told_of_what_another_process_creates",
        broken: "what is heard is forgotten",
        file: HEARD,
        find: "*newest = version.max(*newest);",
        replace: "*newest = version.min(Version(0));",
    },
    Promise {
        promise: "On MongoDB, many that wait ask seldom.",
        package: "icecore-mongodb",
        test: "many_that_wait_ask_seldom",
        broken: "nobody listens",
        file: HEARD,
        find: "        told();\n        while let",
        replace: "        while let",
    },
    Promise {
        promise: "On MongoDB, commits that go in one insert are decided one by one.",
        package: "icecore-mongodb",
        test: "each_commit_of_a_group_is_decided_as_if_it_came_alone",
        broken: "one that was refused counts as made by its group",
        file: GROUP,
        find: "refused.as_ref().is_some_and(|refused| !refused.contains_key(&number))",
        replace: "refused.is_some()",
    },
    Promise {
        promise: "On MongoDB, a lost answer makes every commit of its group unknown.",
        package: "icecore-mongodb",
        test: "a_lost_answer_makes_every_commit_of_its_group_unknown_and_the_same_bytes_decide",
        broken: "it counts as not written",
        file: GROUP,
        find: "let error = undecided(\"the server did not answer in time\").with(\"log\", &member.run.log);",
        replace: "let error = crate::fault::Fault::late().reading(crate::create::DOING).with(\"log\", &member.run.log);",
    },
    Promise {
        promise: "On MongoDB, of a group that stalled while a slot was closed and deleted, that commit is not won, and the others are.",
        package: "icecore-mongodb",
        test: "a_group_that_stalled_while_one_of_its_slots_was_closed_and_swept_wins_only_the_others",
        broken: "it is not asked how long ago the writer looked",
        file: GROUP,
        find: "if !is_made || inner.settings.is_stale(member.seen) {",
        replace: "if !is_made {",
    },
];
