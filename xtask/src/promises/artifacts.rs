//! Of artifacts.

use crate::mutants::Promise;

const PUT: &str = "crates/agents/src/artifacts/put.rs";
const SWEEP: &str = "crates/agents/src/artifacts/sweep.rs";
const BODY: &str = "crates/agents/src/artifacts/body.rs";
const RECORD: &str = "crates/agents/src/artifacts/record.rs";
const ROOM: &str = "crates/agents/src/artifacts/room.rs";
const USES: &str = "crates/agents/src/artifacts/uses.rs";
const COPY: &str = "crates/store/src/copy.rs";

pub const ARTIFACTS: &[Promise] = &[
    Promise {
        promise: "An artifact that is stored has its content: killed at any step, none is without it.",
        package: "icecore-agents",
        test: "killed_at_any_step_no_record_is_without_its_content_and_the_rest_is_swept",
        broken: "the content is deleted once its record is there",
        file: PUT,
        find: "Ok(artifact) if artifact.record.body == record.body => {}",
        replace: "Ok(artifact) if artifact.record.body != record.body => {}",
    },
    Promise {
        promise: "Content that is being stored is not taken for what a killed process left.",
        package: "icecore-agents",
        test: "content_without_a_record_is_deleted_a_day_later_and_not_what_is_being_stored",
        broken: "all content without a record is swept",
        file: SWEEP,
        find: "if begun <= through && !bodies.contains(body) {",
        replace: "if begun <= begun.max(through) && !bodies.contains(body) {",
    },
    Promise {
        promise: "No record is added whose content was swept, whatever the clocks say.",
        package: "icecore-agents",
        test: "content_without_a_record_is_deleted_a_day_later_and_not_what_is_being_stored",
        broken: "nobody looks what was given up",
        file: PUT,
        find: ".is_none_or(|begun| begun <= sweep::swept_through(state))",
        replace: ".is_none_or(|begun| begun < sweep::swept_through(state).min(0))",
    },
    Promise {
        promise: "Damaged content of an artifact is never given.",
        package: "icecore-agents",
        test: "what_is_damaged_is_never_given",
        broken: "a part is given whatever it is",
        file: BODY,
        find: ".await? != expected {",
        replace: ".await?.len() != expected.len() {",
    },
    Promise {
        promise: "What one owner stores, deletes or lets expire touches no other's, also of equal content.",
        package: "icecore-agents",
        test: "no_owner_touches_what_is_another_s",
        broken: "a user is not told from another",
        file: RECORD,
        find: "names::joined(&[self.tenant.as_deref(), self.user.as_deref()])",
        replace: "names::joined(&[self.tenant.as_deref()])",
    },
    Promise {
        promise: "Equal content of one owner is there once, and its first reference stays.",
        package: "icecore-agents",
        test: "equal_content_is_there_once_and_the_first_reference_stays",
        broken: "what comes in pieces takes the place of what was there",
        file: PUT,
        find: "all.iter().find(|one| one.id == new.id && one.is_there(now))",
        replace: "all.iter().find(|one| one.id == new.id && one.body == new.body)",
    },
    Promise {
        promise: "Other content whose id is taken is an error, and not lost.",
        package: "icecore-agents",
        test: "other_content_under_the_same_id_is_a_conflict",
        broken: "it is taken for what is there",
        file: PUT,
        find: "if found.sha256 != new.sha256 {",
        replace: "if found.sha256.len() != new.sha256.len() {",
    },
    Promise {
        promise: "An artifact over its time is absent at once.",
        package: "icecore-agents",
        test: "what_has_expired_is_absent_at_once_and_stored_anew",
        broken: "it is there until it is swept",
        file: RECORD,
        find: "self.expires_at_ms.is_none_or(|expires| now_ms <= expires)",
        replace: "self.expires_at_ms.is_none_or(|expires| now_ms <= expires.max(now_ms))",
    },
    Promise {
        promise: "Content that is too large is refused before it is stored.",
        package: "icecore-agents",
        test: "what_is_too_large_is_refused_and_leaves_nothing",
        broken: "a byte more is taken",
        file: PUT,
        find: "if bytes <= max {",
        replace: "if bytes <= max.saturating_add(1) {",
    },
    Promise {
        promise: "However many processes store artifacts at once, no limit is exceeded.",
        package: "icecore-agents",
        test: "however_many_store_at_once_the_limits_hold_and_only_the_oldest_go",
        broken: "what comes is not counted",
        file: ROOM,
        find: "kept.iter().fold(bytes, |sum, (_, one)|",
        replace: "kept.iter().fold(bytes.min(0), |sum, (_, one)|",
    },
    Promise {
        promise: "A trace has limits of its own.",
        package: "icecore-agents",
        test: "a_trace_has_limits_of_its_own_and_bytes_make_room_too",
        broken: "they are not looked at",
        file: ROOM,
        find: "if is_in_a_trace {",
        replace: "if is_in_a_trace && kept.is_empty() {",
    },
    Promise {
        promise: "By `fifo` what came first makes room, however it is used.",
        package: "icecore-agents",
        test: "the_first_that_came_make_room_however_they_are_used",
        broken: "it is what was used least recently",
        file: PUT,
        find: "MakesRoom::Oldest => self.records(),",
        replace: "MakesRoom::Oldest => self.uses(),",
    },
    Promise {
        promise: "By `lru` what was used least recently makes room, whichever process used it.",
        package: "icecore-agents",
        test: "those_used_least_recently_make_room",
        broken: "a use leaves it where it was",
        file: USES,
        find: "Ok(changes.delete(key.clone()).put(key,",
        replace: "Ok(changes.put(key,",
    },
    Promise {
        promise: "Content of any size goes through a bounded part of memory.",
        package: "icecore-agents",
        test: "two_hundred_megabytes_go_through_a_few_parts_of_memory",
        broken: "all of it is one part",
        file: BODY,
        find: "pub const PART_BYTES: usize = 4 << 20;",
        replace: "pub const PART_BYTES: usize = 400 << 20;",
    },
    Promise {
        promise: "A copy of a store has the content that its commits speak of.",
        package: "icecore-agents",
        test: "a_copy_has_the_content_that_its_commits_speak_of_also_if_it_is_killed",
        broken: "only commits are copied",
        file: COPY,
        find: "        copy_content(source, target, &mut tell).await?;\n",
        replace: "        let _ = copy_content(source, target, &mut tell);\n",
    },
];
