//! Of Redis and Valkey.

use crate::mutants::Promise;

const CONFIG: &str = "crates/backends/redis/src/config.rs";
const CALL: &str = "crates/backends/redis/src/call.rs";
const CREATE: &str = "crates/backends/redis/src/create.rs";
const FAULT: &str = "crates/backends/redis/src/fault.rs";
const FOUND: &str = "crates/backends/redis/src/found.rs";
const SCRIPT: &str = "crates/backends/redis/src/script.rs";
const STORE: &str = "crates/backends/redis/src/store.rs";

pub const REDIS: &[Promise] = &[
    Promise {
        promise: "On Redis, a lost answer is unknown, and the same bytes decide.",
        package: "icecore-redis",
        test: "a_lost_answer_is_unknown_and_the_same_bytes_decide",
        broken: "what was sent and not answered counts as not written",
        file: FAULT,
        find: "if !in_doubt && !self.is_doubt() {",
        replace: "if !in_doubt {",
    },
    Promise {
        promise: "What is not there decides nothing while a request may be on its way to Redis.",
        package: "icecore-redis",
        test: "absent_decides_nothing_in_doubt",
        broken: "what is missing or closed decides in doubt",
        file: CREATE,
        find: "\"closed\" | \"gap\" if in_doubt => {",
        replace: "\"closed\" | \"gap\" if in_doubt && count == 0 => {",
    },
    Promise {
        promise: "On Redis, what follows a commit that a fail-over lost is refused.",
        package: "icecore-redis",
        test: "what_a_fail_over_lost_is_a_gap_and_no_slot_is_won_twice_on_one_history",
        broken: "the predecessor is not looked at",
        file: SCRIPT,
        find: "if head > 0 and (first ~= head + 1 or ARGV[2] ~= ends[3]) then",
        replace: "if head > 0 and first <= head then",
    },
    Promise {
        promise: "A Redis server that was demoted is neither read nor written.",
        package: "icecore-redis",
        test: "a_primary_that_was_demoted_is_neither_read_nor_written",
        broken: "nobody asks for its role",
        file: CALL,
        find: "let asks_role = pool.may_be_replica();",
        replace: "let asks_role = pool.may_be_replica() && calls.is_empty();",
    },
    Promise {
        promise: "With `wait`, a commit on Redis is won only when so many replicas have it.",
        package: "icecore-redis",
        test: "a_commit_that_waits_for_replicas_is_won_when_they_have_it",
        broken: "whoever acknowledges is not counted",
        file: CALL,
        find: "is_ok_and(|found| found >= count)",
        replace: "is_ok_and(|found| found >= count.min(0))",
    },
    Promise {
        promise: "With `wait` and servers that know `WAITAOF`, a commit is won only when so many replicas have it on their disks.",
        package: "icecore-redis",
        test: "a_commit_that_waits_for_disks_is_won_when_a_replica_has_it_on_its_own",
        broken: "the server's own disk is enough",
        file: CALL,
        find: "if own >= 1 && at_least(others, count))",
        replace: "if own >= 1 && at_least(others, count.min(0)))",
    },
    Promise {
        promise: "Over TLS, a Redis server is trusted by the authority that the URL names.",
        package: "icecore-redis",
        test: "secured::a_server_is_trusted_by_its_authority_and_a_user_by_the_password",
        broken: "the authority is read and not used",
        file: CONFIG,
        find: "certificates.root_cert = Some(file(&value)?);",
        replace: "certificates.root_cert = Some(file(&value)?).filter(|_| false);",
    },
    Promise {
        promise: "A replica that keeps nothing on its disk is not taken for one that does.",
        package: "icecore-redis",
        test: "a_replica_that_keeps_nothing_on_disk_is_declared_for_no_more_than_memory",
        broken: "the memory of replicas is enough for what is declared",
        file: STORE,
        find: "if let (Confirm::Disks(_), Durability::Disk) =",
        replace: "if let (Confirm::Disks(_) | Confirm::Replicas(_), Durability::Disk) =",
    },
    Promise {
        promise: "On Redis, nothing that was committed expires.",
        package: "icecore-redis",
        test: "nothing_that_was_committed_expires",
        broken: "the term of the parts of a body is not lifted",
        file: SCRIPT,
        find: "  redis.call('PERSIST', KEYS[key])\n",
        replace: "",
    },
    Promise {
        promise: "A Redis server that is full is trimmed all the same.",
        package: "icecore-redis",
        test: "a_full_server_refuses_before_anything_is_written_and_is_trimmed",
        broken: "closing begins with a write that a full server refuses",
        file: SCRIPT,
        find: "redis.call('HDEL', KEYS[1], '')\nredis.call('HSET', KEYS[1], 'n'",
        replace: "redis.call('HSET', KEYS[1], 'n'",
    },
    Promise {
        promise: "A Redis server that may delete commits by itself is refused.",
        package: "icecore-redis",
        test: "a_server_that_evicts_is_refused",
        broken: "one policy of eviction is let pass",
        file: FOUND,
        find: "Some(\"noeviction\") => Ok(()),",
        replace: "Some(\"noeviction\" | \"allkeys-lru\") => Ok(()),",
    },
    Promise {
        promise: "What is acknowledged while a slot of a Redis cluster moves to another node is there when it has moved, and the writer goes on.",
        package: "icecore-redis",
        test: "what_is_acknowledged_while_a_slot_moves_is_there_when_it_has_moved",
        broken: "nobody asks again where a slot is",
        file: FAULT,
        find: "\"READONLY\" | \"MOVED\" | \"ASK\" => {",
        replace: "\"READONLY\" => {",
    },
    Promise {
        promise: "On Redis, what is wrong with one log is nothing to those that the same script adds to, nor they to it.",
        package: "icecore-redis",
        test: "what_is_wrong_with_one_log_is_nothing_to_those_beside_it",
        broken: "the script for several logs does not look at their heads",
        file: SCRIPT,
        find: "ends[2] == ARGV[at - 5] and ends[3] == ARGV[at - 4] and ",
        replace: "",
    },
    Promise {
        promise: "What was sent to Redis together and not answered is found, or unknown.",
        package: "icecore-redis",
        test: "what_was_sent_together_and_not_answered_is_sent_again_and_found",
        broken: "that it is in doubt is forgotten when each is sent by itself",
        file: CREATE,
        find: "task.in_doubt |= in_doubt;",
        replace: "",
    },
    Promise {
        promise: "A cluster of Redis behind one address takes what is written.",
        package: "icecore-redis",
        test: "a_cluster_behind_one_address_is_given_keys_of_one_bucket",
        broken: "a script is always given keys of all buckets",
        file: CREATE,
        find: "inner.keep_apart();",
        replace: "",
    },
];
