//! Of flows that go on after a crash.

use crate::mutants::Promise;

const RUN: &str = "crates/agents/src/flows/run.rs";

pub const FLOWS: &[Promise] = &[
    Promise {
        promise: "What a durable node made is given to whoever goes on with its flow, and the node is not run again.",
        package: "icecore-agents",
        test: "what_a_node_made_is_given_in_another_life_and_what_was_under_way_is_begun_again",
        broken: "it is not looked for",
        file: RUN,
        find: "recorded = made_in(state, &out)?;",
        replace: "recorded = made_in(state, \"\")?;",
    },
    Promise {
        promise: "Runs of a node that are given the same are told apart, and a retry is the same run.",
        package: "icecore-agents",
        test: "runs_that_are_given_the_same_are_told_apart_and_a_retry_is_the_same_run",
        broken: "one that failed is not taken up again",
        file: RUN,
        find: "|place| matches!(place, Place::Open(_))",
        replace: "|place| matches!(place, Place::Open(Some(_)))",
    },
    Promise {
        promise: "Whoever took a flow over last begins its nodes, and nobody else.",
        package: "icecore-agents",
        test: "whoever_took_a_flow_over_last_begins_its_nodes_and_nobody_else",
        broken: "an earlier life may begin them too",
        file: RUN,
        find: "if life == self.life {",
        replace: "if life >= self.life {",
    },
    Promise {
        promise: "Of all that record what one run of a node made, the first counts for all.",
        package: "icecore-agents",
        test: "of_all_that_record_what_one_node_made_one_counts_for_all",
        broken: "what is there is written over",
        file: RUN,
        find: "            found = made_in(state, key)?;\n",
        replace: "            found = made_in(state, \"\")?;\n",
    },
    Promise {
        promise: "A node that is given something else under its key is not run.",
        package: "icecore-agents",
        test: "a_node_that_is_given_something_else_under_its_key_is_not_run",
        broken: "it is not compared",
        file: RUN,
        find: "if before.said != given.said.map(|said| said.to_string()) {",
        replace: "if before.said.is_some() != given.said.is_some() {",
    },
    Promise {
        promise: "What a node made and could not record is recorded by its next attempt, and the node is not run again.",
        package: "icecore-agents",
        test: "what_a_node_made_and_could_not_be_recorded_is_recorded_by_the_next_attempt_without_running_it",
        broken: "it is forgotten with the attempt",
        file: RUN,
        find: "        self.made = Some(made.clone());\n",
        replace: "",
    },
];
