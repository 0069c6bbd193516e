//! What the documents of a log must be, said as simply as it can be; and the steps that are generated.

mod asks;
mod merges;
mod sequence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, Entry, EntryId, Error, ErrorKind, LogId, LogPrefix, Result, Timestamp, Version};
use icecore_store::retention::{Keep, Pace, Trim};
use icecore_store::state::{At, Changed, Changes, Condition, Expiry, Json, Merge, State};
use icecore_store::{Log, Resolved, Settings, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::{ManualClock, apply_json_patch, event, log};
pub use asks::{Ask, Versions, ask, failed, failing, until_told};
use merges::Merged;
pub use sequence::{generated, rounds, runner};

/// Some are the beginnings of others.
const KEYS: [&str; 7] = ["a", "a/", "a/b", "a/bc", "b~c", "\u{10FFFF}", "é\u{0}"];
/// When a sequence begins.
const NOW: i64 = 1_000;
const MINUTE: i64 = 60_000_000_000;
const PREFIXES: [&str; 6] = ["", "a", "a/", "a/b", "\u{10FFFF}", "none"];

#[derive(Debug, Clone)]
enum Change {
    Put(usize, Value),
    Patch(usize, Value),
    Delete(usize),
    Merge(usize, Merged),
    Expire(usize, Option<Expiry>),
    Touch(usize),
    ExpireLog(Option<Expiry>),
}

#[derive(Debug, Clone, Copy)]
enum When {
    Head,
    Version(i64),
    Time(i64),
}

#[derive(Debug, Clone)]
enum Op {
    One(Change),
    Commit {
        changes: Vec<Change>,
        asks: Vec<Ask>,
        has_id: bool,
    },
    Transact {
        changes: Vec<Change>,
        asks: Vec<Ask>,
        has_id: bool,
    },
    Append,
    Tick(i64),
    StateAt(When),
    Pages {
        prefix: usize,
        size: usize,
    },
    Diff(When, When),
    Rollback(When),
    Fork(When),
    History(usize),
    Base,
    /// Keeps so many commits.
    Trim(u64),
    /// A pass of maintenance, so many minutes later.
    Maintain(i64),
    Land,
}

#[derive(Debug, Clone)]
struct Step {
    store: usize,
    op: Op,
    fates: Vec<Fate>,
    reads_refused: usize,
}

pub fn of(value: &Value) -> Json {
    Json::of(value).unwrap()
}

pub fn value() -> impl Strategy<Value = Value> {
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let leaf = prop_oneof![
        4 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => (0..4_u64).prop_map(|n| json!(n)),
        1 => prop::sample::select(vec![number("1.0"), number("1e400"), number("-0"), number("12345678901234567890123")]),
        1 => prop::sample::select(vec!["", "x", "\u{10FFFF}", "\u{0}", "\\\""]).prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let member = prop::sample::select(vec!["x", "y", "z", "", "~1/"]);
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            4 => prop::collection::vec((member, inner), 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

/// A value that is stored as what differs from another one like it.
fn large() -> impl Strategy<Value = Value> {
    (0..6_usize, 0..4_u64, value()).prop_map(|(turns, count, last)| {
        let turn = |number: usize| json!({"id": number, "says": format!("{number} ").repeat(60)});
        json!({"count": count, "turns": (0..turns + 4).map(turn).collect::<Vec<_>>(), "last": last})
    })
}

/// Of documents also pinned. The clock of a sequence begins at [`NOW`], and goes on by a few nanoseconds a step or by minutes.
fn expiry(may_pin: bool) -> impl Strategy<Value = Option<Expiry>> {
    let span = prop::sample::select(vec![3, 10, 30, 20 * MINUTE]);
    let at = prop::sample::select(vec![0, 5, 15, 40, 30 * MINUTE]);
    prop_oneof![
        2 => Just(None),
        3 => at.prop_map(|at| Some(Expiry::At(Timestamp(NOW + at)))),
        4 => span.prop_map(|span| Some(Expiry::Sliding(Duration::from_nanos(span.cast_unsigned())))),
        if may_pin {2} else {0} => Just(Some(Expiry::Pinned)),
    ]
}

/// Some are used often, so that one change meets another.
fn key() -> BoxedStrategy<usize> {
    prop_oneof![2 => 1..3_usize, 1 => 0..KEYS.len()].boxed()
}

fn change() -> impl Strategy<Value = Change> {
    let key = key();
    prop_oneof![
        3 => (key.clone(), expiry(true)).prop_map(|(key, expiry)| Change::Expire(key, expiry)),
        1 => key.clone().prop_map(Change::Touch),
        1 => expiry(false).prop_map(Change::ExpireLog),
        3 => (key.clone(), value()).prop_map(|(key, value)| Change::Put(key, value)),
        2 => (key.clone(), large()).prop_map(|(key, value)| Change::Put(key, value)),
        4 => (key.clone(), value()).prop_map(|(key, value)| Change::Patch(key, value)),
        2 => key.clone().prop_map(Change::Delete),
        5 => (key, merges::merged()).prop_map(|(key, merged)| Change::Merge(key, merged)),
    ]
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![Just(When::Head), (-1..12_i64).prop_map(When::Version), (-5..40_i64).prop_map(When::Time),]
}

fn step(is_faulty: bool) -> impl Strategy<Value = Step> {
    let changes = || prop::collection::vec(change(), 0..4);
    let asks = || prop::collection::vec(ask(key()), 0..4);
    let op = prop_oneof![
        6 => change().prop_map(Op::One),
        4 => (changes(), asks(), any::<bool>()).prop_map(|(changes, asks, has_id)| Op::Commit { changes, asks, has_id }),
        4 => (changes(), asks(), any::<bool>()).prop_map(|(changes, asks, has_id)| Op::Transact { changes, asks, has_id }),
        2 => Just(Op::Append),
        3 => (-2..6_i64).prop_map(Op::Tick),
        3 => when().prop_map(Op::StateAt),
        1 => (0..PREFIXES.len(), 1..4_usize).prop_map(|(prefix, size)| Op::Pages { prefix, size }),
        2 => (when(), when()).prop_map(|(from, to)| Op::Diff(from, to)),
        2 => when().prop_map(Op::Rollback),
        1 => when().prop_map(Op::Fork),
        2 => key().prop_map(Op::History),
        1 => Just(Op::Base),
        2 => (0..8_u64).prop_map(Op::Trim),
        3 => (20..40_i64).prop_map(Op::Maintain),
        1 => Just(Op::Land),
    ];
    let fate = prop::sample::select(vec![
        Fate::LoseAnswer,
        Fate::LoseRequest,
        Fate::LoseRequest,
        Fate::Delay,
        Fate::Refuse,
        Fate::Pass,
    ]);
    let fates = if is_faulty {
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(fate, 1..5)].boxed()
    } else {
        Just(Vec::new()).boxed()
    };
    let refused =
        if is_faulty { prop_oneof![4 => Just(0), 1 => 1..3_usize].boxed() } else { Just(0).boxed() };
    (0..2_usize, op, fates, refused).prop_map(|(store, op, fates, reads_refused)| Step {
        store,
        op,
        fates,
        reads_refused,
    })
}

#[derive(Debug, Clone, PartialEq)]
struct Doc {
    value: Value,
    /// Its bytes, once they are known: what a patch makes of a value is compared by what it says, and from then on to the byte.
    json: Option<Bytes>,
    version: u64,
    at: i64,
    expiry: Option<Expiry>,
}

/// What was committed, also of what is due.
#[derive(Debug, Clone, Default)]
struct Moment {
    at: i64,
    docs: BTreeMap<String, Doc>,
    life: Life,
}

/// The log's own expiry, when it was used last, and through which version all is gone that is not pinned.
#[derive(Debug, Clone, Copy, Default)]
struct Life {
    expiry: Option<Expiry>,
    used: i64,
    floor: u64,
}

/// Whether it has not come to an end that was renewed then.
fn lasts(expiry: Option<Expiry>, renewed: i64, at: i64) -> bool {
    match expiry {
        None | Some(Expiry::Pinned) => true,
        Some(Expiry::At(time)) => at < time.0,
        Some(Expiry::Sliding(span)) => at - renewed < span.as_nanos() as i64,
    }
}

impl Moment {
    /// Whether a document is there at a time.
    fn has(&self, doc: &Doc, at: i64) -> bool {
        let lives = self.life.floor < doc.version && lasts(self.life.expiry, self.life.used, at);
        doc.expiry == Some(Expiry::Pinned) || lives && lasts(doc.expiry, doc.at, at)
    }

    /// What is there at a time.
    fn seen(&self, at: i64) -> BTreeMap<&str, &Doc> {
        let seen = self.docs.iter().filter(|(_, doc)| self.has(doc, at));
        seen.map(|(key, doc)| (&**key, doc)).collect()
    }

    /// Something is appended behind this version: a log that is due begins anew.
    fn begin(&mut self, last: u64) {
        let is_due = !lasts(self.life.expiry, self.life.used, self.at);
        if is_due {
            self.life.floor = last;
            self.life.expiry = self.life.expiry.filter(|expiry| matches!(expiry, Expiry::Sliding(_)));
        }
        self.life.used = self.at;
    }

    /// What a change does to the documents; whether it does something.
    fn apply(&mut self, done: &Done, version: u64) -> bool {
        let at = self.at;
        let Done { key, change, value, json, pointer, expiry } = done.clone();
        if change == "expire" || change == "touch" {
            let found = self.docs.get(&key).filter(|doc| self.has(doc, at)).cloned();
            let is_touch = change == "touch";
            let may = |doc: &Doc| !is_touch || matches!(doc.expiry, Some(Expiry::Sliding(_)));
            let Some(found) = found.filter(may) else { return false };
            let expiry = if is_touch { found.expiry } else { expiry };
            self.docs.insert(key, Doc { version, at, expiry, ..found });
            return true;
        }
        // What is gone is as if it had been deleted.
        let found = self.docs.get(&key).filter(|doc| self.has(doc, at)).cloned();
        let expiry = found.as_ref().and_then(|doc| doc.expiry);
        let old = || found.map_or(Value::Null, |doc| doc.value);
        let (value, json) = match (change, value) {
            ("delete", _) => {
                self.docs.remove(&key);
                return true;
            }
            ("put", Some(value)) => (value, json),
            ("patch", Some(patch)) => (merge_patch(old(), &patch), None),
            (operation, operand) => {
                let mut value = old();
                if !merges::merge(&mut value, &pointer, operation, &operand.unwrap()) {
                    return false;
                }
                (value, None)
            }
        };
        self.docs.insert(key, Doc { value, json, version, at, expiry });
        true
    }
}

/// A change: its version, its key, what it was, and its value; of a merge also where, and whether it changed something.
type Told = (u64, String, &'static str, Option<Value>, String, bool);

/// A change in the model's words.
#[derive(Debug, Clone)]
struct Done {
    key: String,
    change: &'static str,
    value: Option<Value>,
    json: Option<Bytes>,
    pointer: String,
    expiry: Option<Expiry>,
}

/// Of the log itself, which has no key.
const LOG: &str = "";

impl Done {
    fn new(key: &str, change: &'static str, value: Option<Value>, json: Option<Bytes>) -> Self {
        Self { key: key.to_owned(), change, value, json, pointer: String::new(), expiry: None }
    }

    fn expire(key: &str, expiry: Option<Expiry>) -> Self {
        let value = match expiry {
            None => Value::Null,
            Some(Expiry::At(time)) => json!({"at": time.0}),
            Some(Expiry::Sliding(span)) => json!({"sliding": span.as_nanos() as u64}),
            Some(Expiry::Pinned) => json!({"pinned": true}),
        };
        Self { expiry, ..Self::new(key, "expire", Some(value), None) }
    }
}

#[derive(Debug)]
struct Model {
    /// By version; the first is before the first commit.
    moments: Vec<Moment>,
    told: Vec<Told>,
    now: i64,
    /// Through here it was trimmed.
    boundary: u64,
    bases: Vec<u64>,
}

/// Source: RFC 7396, section 2, word by word.
fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut members = match target {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        let old = members.shift_remove(name);
        if !value.is_null() {
            members.insert(name.clone(), merge_patch(old.unwrap_or(Value::Null), value));
        }
    }
    Value::Object(members)
}

impl Versions for Model {
    fn head(&self) -> u64 {
        self.moments.len() as u64 - 1
    }

    fn version_of(&self, key: &str) -> u64 {
        self.last().seen(self.next_at()).get(key).map_or(0, |doc| doc.version)
    }
}

impl Model {
    fn last(&self) -> &Moment {
        self.moments.last().unwrap()
    }

    /// When the next commit is made.
    fn next_at(&self) -> i64 {
        if self.head() == 0 { self.now } else { self.last().at.max(self.now) }
    }

    /// The next commit: `is_use` unless it is one of maintenance.
    fn commit(&mut self, changes: &[Done], is_use: bool) {
        let version = self.head() + 1;
        let mut moment = Moment { at: self.next_at(), ..self.last().clone() };
        if is_use {
            moment.begin(version - 1);
        }
        for done in changes.iter().filter(|done| done.key != LOG) {
            let is_done = moment.apply(done, version);
            let Done { key, change, value, pointer, .. } = done.clone();
            self.told.push((version, key, change, value, pointer, is_done));
        }
        for done in changes.iter().filter(|done| done.key == LOG) {
            moment.life.expiry = done.expiry;
        }
        self.moments.push(moment);
    }

    fn apply(&mut self, changes: &[Done]) {
        self.commit(changes, true);
    }

    /// A base changes nothing.
    fn base(&mut self) {
        self.commit(&[], false);
        self.bases.push(self.head());
    }

    /// By which time the documents at a moment are seen.
    fn seen_as_of(&self, at: At, version: usize) -> i64 {
        match at {
            At::Head => self.now,
            At::Version(_) => self.moments[version].at,
            At::Time(time) => time.0,
        }
    }

    /// Whether the time has come that was said of a document.
    fn is_over(&self, doc: &Doc) -> bool {
        matches!(doc.expiry, Some(Expiry::At(time)) if time.0 <= self.now)
    }

    /// Whether the state behind a version can still be told.
    fn is_known(&self, version: u64) -> bool {
        let is_its = |base: &u64| self.boundary < *base && *base <= version;
        version == 0 || self.boundary == 0 || self.bases.iter().any(is_its)
    }

    /// What the oldest base that is left says of a document, if nothing else does of what was before it.
    fn kept(&self, key: &str) -> Option<&Doc> {
        let oldest = self.bases.iter().find(|base| **base > self.boundary)?;
        let is_between =
            |(version, found, ..): &Told| found == key && self.boundary < *version && version < oldest;
        let found = self.moments[*oldest as usize].docs.get(key)?;
        (!self.told.iter().any(is_between) && found.version < *oldest).then_some(found)
    }

    /// Which merges would change nothing, and the versions of their documents, in order.
    fn in_vain(&self, changes: &[Change]) -> Vec<String> {
        let mut moment = Moment { at: self.next_at(), ..self.last().clone() };
        moment.begin(self.head());
        let mut in_vain = Vec::new();
        for done in made(changes).into_iter().filter(|done| done.key != LOG) {
            if !moment.apply(&done, self.head() + 1) && !["expire", "touch"].contains(&done.change) {
                let place =
                    if done.pointer.is_empty() { String::new() } else { format!(" {}", done.pointer) };
                in_vain.push(format!("{} {}{place}", done.key, done.change));
                in_vain.push(self.version_of(&done.key).to_string());
            }
        }
        in_vain
    }

    /// The moment, as it is asked for and as it is; its version is `None` if there is no such moment.
    fn at(&self, when: When) -> (At, Option<usize>) {
        let head = self.head();
        match when {
            When::Head => (At::Head, Some(self.moments.len() - 1)),
            When::Version(behind) => {
                let version = head.saturating_add_signed(-behind);
                let is_known = version <= head && self.is_known(version);
                (At::Version(Version(version)), is_known.then_some(version as usize))
            }
            // A log without a commit has a test of its own.
            When::Time(_) if head == 0 => (At::Version(Version::ZERO), Some(0)),
            When::Time(behind) => {
                let time = self.now - behind;
                let found = (1..self.moments.len()).rev().find(|version| self.moments[*version].at <= time);
                let found = found.unwrap_or(0);
                // What was at a time before all that is left, nobody knows.
                let is_left = self.boundary == 0 || found as u64 > self.boundary;
                (At::Time(Timestamp(time)), (is_left && self.is_known(found as u64)).then_some(found))
            }
        }
    }

    /// Compares with what is there at a time, and takes over the bytes of what was patched.
    fn check(&mut self, version: usize, at: i64, state: &State, what: &str) {
        let moment = &mut self.moments[version];
        let seen: Vec<_> = moment.seen(at).into_keys().map(str::to_owned).collect();
        assert_eq!(state.version.0 as usize, version, "{what}");
        assert_eq!(state.at, (version > 0).then_some(Timestamp(moment.at)), "{what}");
        assert_eq!(state.expiry(), moment.life.expiry, "{what}");
        assert!(state.documents("").map(|(key, _)| key).eq(&seen), "{what}: {state:?}, and not {seen:?}");
        assert_eq!((state.len(), state.is_empty()), (seen.len(), seen.is_empty()), "{what}");
        for (key, found) in state.documents("") {
            let wanted = moment.docs.get_mut(key).unwrap();
            let got = (found.value().unwrap(), found.version.0, found.at.0, found.expiry);
            assert_eq!(
                got,
                (wanted.value.clone(), wanted.version, wanted.at, wanted.expiry),
                "{what}: {key}"
            );
            assert_eq!(&found.json, wanted.json.get_or_insert(found.json.clone()), "{what}: {key}");
        }
        // What was learnt holds for as long as the document is not changed.
        let learnt: Vec<_> = moment.docs.iter().map(|(key, doc)| (key.clone(), doc.clone())).collect();
        for later in &mut self.moments[version + 1..] {
            for (key, doc) in &learnt {
                if let Some(same) = later.docs.get_mut(key).filter(|same| same.version == doc.version) {
                    same.json.clone_from(&doc.json);
                }
            }
        }
    }
}

/// What is committed, in the model's words.
fn made(changes: &[Change]) -> Vec<Done> {
    let one = |change: &Change| match change {
        Change::Put(key, value) => {
            Done::new(KEYS[*key], "put", Some(value.clone()), Some(of(value).bytes().clone()))
        }
        Change::Patch(key, value) => Done::new(KEYS[*key], "patch", Some(value.clone()), None),
        Change::Delete(key) => Done::new(KEYS[*key], "delete", None, None),
        Change::Merge(key, Merged { operation, pointer, operand }) => Done {
            pointer: (*pointer).to_owned(),
            ..Done::new(KEYS[*key], operation, Some(operand.clone()), None)
        },
        Change::Expire(key, expiry) => Done::expire(KEYS[*key], *expiry),
        Change::Touch(key) => Done::new(KEYS[*key], "touch", None, None),
        Change::ExpireLog(expiry) => Done::expire(LOG, *expiry),
    };
    changes.iter().map(one).collect()
}

fn asked(changes: &[Change], conditions: &[Condition], id: Option<&EntryId>) -> Changes {
    let mut asked = Changes::new();
    for change in changes {
        asked = match change {
            Change::Put(key, value) => asked.put(KEYS[*key], of(value)),
            Change::Patch(key, value) => asked.patch(KEYS[*key], of(value)),
            Change::Delete(key) => asked.delete(KEYS[*key]),
            Change::Merge(key, merged) => asked.merge(KEYS[*key], merged.merge()),
            Change::Expire(key, expiry) => asked.expire(KEYS[*key], *expiry),
            Change::Touch(key) => asked.touch(KEYS[*key]),
            Change::ExpireLog(expiry) => asked.expire_log(*expiry),
        };
    }
    asked = conditions.iter().fold(asked, |asked, condition| asked.only_if(condition.clone()));
    id.map_or(asked.clone(), |id| asked.with_id(id.clone()))
}
