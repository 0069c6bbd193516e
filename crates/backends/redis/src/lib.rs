//! Keeps logs in Redis 6 or later, or in Valkey: one server, a primary that Sentinels name, or a cluster. No modules.
//!
//! A log is a hash: its boundary and its head are fields beside its commits. What is decided is decided by a script, for one log, in one
//! step; the keys of a log and the index of names that it is in have one tag, so that a cluster keeps them together. Keys are in `keys`,
//! scripts in `script`, and both in `docs/formats/redis.md`.
//!
//! | contract | rests on |
//! | --- | --- |
//! | 1 once | the script that adds a run looks at its slots first, and nothing runs beside a script |
//! | 2 unknown | what was not answered is sent again as it is until the time is up; then it is unknown. What was only seen is written once more, so that what is waited for behind it covers it |
//! | 3 durable | `appendonly` and `appendfsync always`, looked at when opening; less is declared where they say less. More only with `WAITAOF` |
//! | 4 fresh, chained | the primary is read, and says that it is one; the predecessor is looked at in the script that adds |
//! | 5 deletion | the boundary is looked at in the script that adds. No key of a log expires |
//! | 6 bytes | binary values with a checksum of our own |
//! | 7 neighbours | a script a run, many in one request; nothing is all or none across logs |
//! | 8 names | the name is in the index before the first commit, in the same step |
//! | 9 blobs | parts under a name of their own, which a script gives their place if it is free |
//!
//! **What a fail-over can lose.** Replication is asynchronous: a replica that takes over may lack the last commits, acknowledged ones too. Then
//! the log ends earlier, and what is built on a lost commit is refused: its predecessor is missing ([`End::Gap`](icecore_log::End::Gap)).
//! With `wait=N` a commit is acknowledged when N replicas have it.

mod answer;
mod call;
mod config;
mod create;
mod examine;
mod fault;
mod found;
mod keys;
mod parts;
mod pool;
mod read;
mod script;
mod store;
mod trim;

pub use config::{Address, Servers, Settings};
pub use icecore_log::Access;
pub use store::{Redis, RedisStore};
