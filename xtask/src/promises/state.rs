//! Of large values, snapshots, and how fresh a state is.

use crate::mutants::Promise;

const UPKEEP: &str = "crates/store/src/state/upkeep.rs";

pub const STATE: &[Promise] = &[
    Promise {
        promise: "A large value that changes a little costs a little, whatever the shape of the change.",
        package: "icecore-store",
        test: "a_difference_is_small_for_each_shape_of_change",
        broken: "matches far away are never looked for",
        file: "crates/store/src/state/edit.rs",
        find: "const LONG_DISTANCE_FROM: usize = 512 << 10;",
        replace: "const LONG_DISTANCE_FROM: usize = 512 << 30;",
    },
    Promise {
        promise: "A damaged snapshot is never believed, and is replaced by who writes.",
        package: "icecore-store",
        test: "a_damaged_snapshot_is_never_believed_and_is_gone_in_the_end",
        broken: "a writer leaves damaged ones in its way",
        file: UPKEEP,
        find: "is_any_damaged = true;\n                snapshot::delete(inner, &log.id, layer.info()).await?;",
        replace: "is_any_damaged = true;",
    },
    Promise {
        promise: "Snapshots of a history that was lost are not read.",
        package: "icecore-store",
        test: "a_snapshot_of_a_lost_history_is_not_read_below_one_of_ours",
        broken: "whatever ends where another begins is taken for what is below it",
        file: "crates/store/src/state/layers.rs",
        find: "below.map_or(Hash::ZERO, |below| below.meta().hash) == snapshot.meta().previous",
        replace: "below.map_or(Hash::ZERO, |below| below.meta().hash).0[0] <= snapshot.meta().previous.0[0].max(255)",
    },
    Promise {
        promise: "A new process reads a bounded number of commits to know a state, however long the log is, and there are few snapshots.",
        package: "icecore-store",
        test: "there_are_few_snapshots_and_a_new_process_reads_few_commits",
        broken: "snapshots are not merged",
        file: UPKEEP,
        find: "layer.info().bytes() > bytes.saturating_mul(2)",
        replace: "layer.info().bytes() > bytes.saturating_mul(0)",
    },
    Promise {
        promise: "A page of a large state reads and holds a bounded amount.",
        package: "icecore-store",
        test: "a_page_of_a_large_state_costs_what_one_of_a_small_state_does",
        broken: "the whole state is read first",
        file: "crates/store/src/state/page.rs",
        find: "layers.bytes() <= self.store.0.settings.whole_state_bytes_max",
        replace: "layers.bytes() / 1_000_000_000 <= self.store.0.settings.whole_state_bytes_max",
    },
    Promise {
        promise: "A read with a token never answers from before what the token has seen.",
        package: "icecore-store",
        test: "a_read_with_a_token_is_never_from_before_it_and_looks_only_if_it_must",
        broken: "one version before counts too",
        file: "crates/store/src/state/consistency.rs",
        find: "if state.version < self.version {\n            return Seen::No;",
        replace: "if state.version.next() < self.version {\n            return Seen::No;",
    },
    Promise {
        promise: "What is kept of states stays within the bytes that the setting allows.",
        package: "icecore-store",
        test: "a_state_that_grows_little_by_little_is_weighed_as_it_grows",
        broken: "a state that grows slowly is not weighed again",
        file: "crates/store/src/state/cache.rs",
        find: "let weighed = slot.weighed.load(Ordering::Relaxed);",
        replace: "let weighed = slot.weighed.load(Ordering::Relaxed);\n        if weighed > 0 {\n            return;\n        }",
    },
    Promise {
        promise: "A runtime that is shut down in the middle leaves no log locked.",
        package: "icecore-store",
        test: "a_runtime_that_is_shut_down_while_a_task_begins_leaves_no_log_locked",
        broken: "the end of a task waits for the lock under which it was begun",
        file: UPKEEP,
        find: "    let (log, active) = (Store(Arc::clone(inner)).log(active.id.clone()), Arc::clone(active));\n    tokio::spawn(async move {\n",
        replace: "    let (log, active) = (Store(Arc::clone(inner)).log(active.id.clone()), Arc::clone(active));\n    struct Locking(Arc<Active>);\n    impl Drop for Locking {\n        fn drop(&mut self) {\n            drop(lock(&self.0.state));\n        }\n    }\n    let locking = Locking(Arc::clone(&active));\n    tokio::spawn(async move {\n        let _locking = locking;\n",
    },
    Promise {
        promise: "A replay from the commits alone finds every snapshot that is not what the commits say.",
        package: "icecore-cli",
        test: "replay_compares_the_commits_with_each_snapshot_and_what_is_damaged_costs_only_time",
        broken: "those that cannot be read are passed over",
        file: "crates/store/src/state/replay.rs",
        find: "Some(error) if error.kind() == ErrorKind::Corrupt => replayed.damaged_snapshots.push(error),",
        replace: "Some(error) if error.kind() == ErrorKind::Corrupt => return Ok(()),",
    },
];
