//! Of what a fail-over leaves: who is the primary, what is lost, and what may be said of it.

use crate::mutants::Promise;

const NOTICES: &str = "crates/backends/sql/src/postgres/notices.rs";
const PRIMARY: &str = "crates/backends/sql/src/postgres/primary.rs";
const WIRE: &str = "crates/backends/sql/src/postgres/wire.rs";
const CONSISTENCY: &str = "crates/store/src/state/consistency.rs";

pub const FAILOVER: &[Promise] = &[
    Promise {
        promise: "With standbys of PostgreSQL that commits wait for, what was acknowledged survives the death of the primary, and writers find the next one themselves.",
        package: "icecore-sql",
        test: "what_a_standby_has_survives_the_death_of_the_primary",
        broken: "only the first of several servers is asked",
        file: PRIMARY,
        find: "let asked = (0..).zip(servers).map(",
        replace: "let asked = (0..).zip(servers.iter().take(1)).map(",
    },
    Promise {
        promise: "A primary of PostgreSQL that was replaced and comes back as it was is neither read nor written by who has seen another.",
        package: "icecore-sql",
        test: "a_primary_that_was_replaced_and_comes_back_as_it_was_wins_nothing",
        broken: "its timeline is not compared",
        file: PRIMARY,
        find: "self.is_of(other) && self.timeline < other.timeline",
        replace: "self.is_of(other) && self.timeline.is_none() && other.timeline.is_some()",
    },
    Promise {
        promise: "A primary of PostgreSQL that does not answer any more is left for the one that replaced it, within one call.",
        package: "icecore-sql",
        test: "a_primary_that_does_not_answer_any_more_is_left_for_the_one_that_replaced_it",
        broken: "an idle connection is asked whether it lives for as long as the call may take",
        file: "crates/backends/sql/src/server/pool.rs",
        find: "let until = deadline.min(Instant::now() + PING_PATIENCE);",
        replace: "let until = deadline;",
    },
    Promise {
        promise: "What is lost with PostgreSQL's primary because no standby had it was acknowledged to nobody.",
        package: "icecore-sql",
        test: "what_no_standby_has_is_lost_with_the_primary_and_nobody_was_told_otherwise",
        broken: "the server's warning is not heard",
        file: NOTICES,
        find: "(output, heard.load(Ordering::Relaxed))",
        replace: "(output, heard.load(Ordering::Relaxed) && false)",
    },
    Promise {
        promise: "On PostgreSQL, what follows a commit that a fail-over lost is refused.",
        package: "icecore-sql",
        test: "what_a_promoted_laggard_lost_is_a_gap_and_no_slot_is_won_twice_on_one_history",
        broken: "the predecessor is not looked at",
        file: WIRE,
        find: "WHERE p.log = l.id AND p.version = u.version - 1 AND sha256(p.header) = u.previous)",
        replace: "WHERE p.log = l.id)",
    },
    Promise {
        promise: "No more is declared than what the PostgreSQL server does that took over.",
        package: "icecore-sql",
        test: "no_more_is_declared_than_what_the_server_does_that_is_connected_to_now",
        broken: "what was declared first stays",
        file: PRIMARY,
        find: "self.known().least.map_or(declared, |least| least.min(declared))",
        replace: "self.known().least.map_or(declared, |_| declared)",
    },
    Promise {
        promise: "Of what a fail-over of Redis lost while others wrote, each receipt is told so.",
        package: "icecore",
        test: "each_receipt_of_what_redis_lost_is_told_so_with_writers_running",
        broken: "its token has no hash",
        file: CONSISTENCY,
        find: "Token { log: self.log.clone(), version: self.version, hash: self.hash }",
        replace: "Token { log: self.log.clone(), version: self.version, hash: None }",
    },
    Promise {
        promise: "A token of a history that was lost is told, however far another has come.",
        package: "icecore-store",
        test: "a_token_of_long_ago_is_of_this_history_or_lost",
        broken: "what the state does not know any more is taken for seen",
        file: CONSISTENCY,
        find: "            Seen::Unsure(hash) => hash,\n",
        replace: "            Seen::Unsure(_) => return Ok(()),\n",
    },
    Promise {
        promise: "An entry that is repeated by its id, and found in what was only read, is acknowledged when that is known to last.",
        package: "icecore-store",
        test: "what_was_only_read_is_sent_again_before_it_is_acknowledged",
        broken: "it is acknowledged at once",
        file: "crates/store/src/sealing.rs",
        find: "is_ok_and(|receipt| receipt.version > self.durable)",
        replace: "is_ok_and(|receipt| receipt.version < Version::ZERO)",
    },
];
