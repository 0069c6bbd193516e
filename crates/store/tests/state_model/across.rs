//! Transactions over several logs against a model: all of their changes, or none, and every condition that does not hold is named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icecore_layers::{Fate, Fault};
use icecore_log::{Backend, EntryId, LogId, Result};
use icecore_store::state::{Changes, Condition, Json, Merge, States};
use icecore_store::{Receipt, Settings, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::model::{Ask, Versions, ask, failed, failing, runner, until_told};
use crate::support::event;

const LOGS: usize = 3;
const KEYS: [&str; 3] = ["a", "a/b", "é"];

#[derive(Debug, Clone, Copy)]
enum Change {
    Put(usize, i64),
    Add(usize, i64),
    Delete(usize),
}

/// What is decided on one log: nothing at all, if it is only read.
#[derive(Debug, Clone)]
struct Part {
    changes: Vec<Change>,
    asks: Vec<Ask>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Commit,
    Transact,
    /// Decided on states, and committed behind them; meanwhile this log may have gone on.
    Behind(Option<usize>),
}

#[derive(Debug, Clone)]
struct Step {
    store: usize,
    how: How,
    /// By log; `None` is not named.
    parts: [Option<Part>; LOGS],
    has_id: bool,
    fates: Vec<Fate>,
}

fn part() -> impl Strategy<Value = Option<Part>> {
    let key = 0..KEYS.len();
    let change = prop_oneof![
        3 => (key.clone(), 0..9_i64).prop_map(|(key, value)| Change::Put(key, value)),
        2 => (key.clone(), 1..5_i64).prop_map(|(key, by)| Change::Add(key, by)),
        1 => key.prop_map(Change::Delete),
    ];
    let part = (prop::collection::vec(change, 0..3), prop::collection::vec(ask(0..KEYS.len()), 0..2));
    prop::option::weighted(0.7, part.prop_map(|(changes, asks)| Part { changes, asks }))
}

fn step(is_faulty: bool) -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        3 => Just(How::Commit),
        3 => Just(How::Transact),
        1 => prop::option::of(0..LOGS).prop_map(How::Behind),
    ];
    let fate = prop::sample::select(vec![Fate::LoseAnswer, Fate::LoseRequest, Fate::Refuse, Fate::Pass]);
    let fates = prop::collection::vec(fate, if is_faulty { 0..9 } else { 0..1 });
    let parts = [part(), part(), part()];
    (0..2_usize, how, parts, any::<bool>(), fates).prop_map(move |(store, how, parts, has_id, fates)| Step {
        store,
        how,
        parts,
        has_id: has_id || is_faulty,
        fates,
    })
}

fn id(log: usize) -> LogId {
    LogId::new("acme", "account", &log.to_string()).unwrap()
}

/// A log in the model: its version, and that of each document beside its value.
#[derive(Debug, Default, PartialEq)]
struct Account {
    head: u64,
    docs: BTreeMap<&'static str, (i64, u64)>,
}

impl Versions for Account {
    fn head(&self) -> u64 {
        self.head
    }

    fn version_of(&self, key: &str) -> u64 {
        self.docs.get(key).map_or(0, |doc| doc.1)
    }
}

struct Sequence {
    backend: Arc<Fault>,
    stores: [Store; 2],
    model: [Account; LOGS],
    is_faulty: bool,
    ids: usize,
    conflicts: usize,
    unknown: usize,
    what: String,
}

impl Part {
    fn changes(&self, conditions: &[Condition], id: Option<&EntryId>) -> Changes {
        let mut changes = Changes::new();
        for change in &self.changes {
            changes = match *change {
                Change::Put(key, value) => changes.put(KEYS[key], Json::of(&value).unwrap()),
                Change::Add(key, by) => changes.merge(KEYS[key], Merge::add(&by).unwrap()),
                Change::Delete(key) => changes.delete(KEYS[key]),
            };
        }
        changes = conditions.iter().cloned().fold(changes, Changes::only_if);
        if let Some(id) = id { changes.with_id(id.clone()) } else { changes }
    }
}

impl Sequence {
    fn new(backend: Arc<dyn Backend>, is_faulty: bool) -> Self {
        let backend = Arc::new(Fault::new(backend));
        let build = || {
            let mut settings = Settings::default();
            settings.append_timeout = Duration::from_millis(if is_faulty { 15 } else { 20_000 });
            Store::builder(Arc::clone(&backend) as Arc<dyn Backend>).settings(settings).build()
        };
        let stores = [build(), build()];
        let (model, what) = (<[Account; LOGS]>::default(), String::new());
        Self { backend, stores, model, is_faulty, ids: 0, conflicts: 0, unknown: 0, what }
    }

    /// Until it is told, each time from the other store.
    async fn told<T>(&mut self, store: usize, mut attempt: impl AsyncFnMut(Store) -> Result<T>) -> Result<T> {
        let each = async |number: usize| attempt(self.stores[(store + number) % 2].clone()).await;
        let (told, unknown) = until_told(self.is_faulty, &self.what, each).await;
        self.unknown += unknown;
        told
    }

    async fn step(&mut self, step: &Step) {
        let what = self.what.clone();
        self.ids += 1;
        let entry = step.has_id.then(|| EntryId::new(format!("id-{}", self.ids)).unwrap());
        let named: Vec<(usize, &Part)> =
            step.parts.iter().enumerate().filter_map(|(log, part)| Some((log, part.as_ref()?))).collect();
        let ids: Vec<LogId> = named.iter().map(|(log, _)| id(*log)).collect();
        let (mut decided, mut not_held) = (Vec::new(), Vec::new());
        for (log, part) in &named {
            let account = &self.model[*log];
            let conditions: Vec<_> = part.asks.iter().map(|ask| ask.condition(&KEYS, account)).collect();
            not_held.extend(failing(&conditions, account));
            decided.push((id(*log), part.changes(&conditions, entry.as_ref())));
        }
        let is_behind =
            matches!(step.how, How::Behind(Some(log)) if named.iter().any(|(named, _)| *named == log));
        let states = self.told(step.store, async |store| store.states(&ids).await).await.unwrap();
        self.check(&states);
        if let How::Behind(Some(log)) = step.how {
            self.told(1, async |store| store.append(&id(log), event("beside")).await).await.unwrap();
            self.model[log].head += 1;
        }
        self.backend.plan(step.fates.iter().copied());
        let told = self
            .told(step.store, async |store| match step.how {
                How::Commit => store.commit(decided.clone()).await.map(Some),
                How::Transact => store.transact(&ids, |_| Ok(decided.clone())).await.map(Some),
                How::Behind(_) => store.commit_behind(&states, decided.clone()).await,
            })
            .await;
        self.backend.forget_plan();
        self.judge(&named, &not_held, is_behind, step, told, &what);
        let all: Vec<LogId> = (0..LOGS).map(id).collect();
        for store in 0..2 {
            let states = self.told(store, async |store| store.states(&all).await).await.unwrap();
            self.check(&states);
        }
    }

    /// Compares an answer, and takes over what it says.
    fn judge(
        &mut self,
        named: &[(usize, &Part)],
        not_held: &[String],
        is_behind: bool,
        step: &Step,
        told: Result<Option<Vec<Receipt>>>,
        what: &str,
    ) {
        let changed: Vec<usize> =
            named.iter().filter(|(_, part)| !part.changes.is_empty()).map(|(log, _)| *log).collect();
        match told {
            // Its first try was carried out, and its answer lost: then the logs went on by itself.
            Ok(None) if is_behind || !step.fates.is_empty() => {
                assert!(matches!(step.how, How::Behind(_)), "{what}");
                if is_behind {
                    return;
                }
            }
            Ok(receipts) => {
                assert!(!is_behind, "{what}: behind what was seen something was appended");
                assert_eq!(not_held, Vec::<String>::new(), "{what}");
                let receipts: Vec<_> =
                    receipts.unwrap().into_iter().map(|receipt| (receipt.log, receipt.version.0)).collect();
                let wanted: Vec<_> =
                    changed.iter().map(|log| (id(*log), self.model[*log].head + 1)).collect();
                assert_eq!(receipts, wanted, "{what}");
            }
            Err(error) => {
                assert_eq!(failed(&error), not_held, "{what}: {error}");
                assert!(!not_held.is_empty(), "{what}: {error}");
                self.conflicts += 1;
                return;
            }
        }
        if changed.is_empty() {
            return;
        }
        for (log, part) in named {
            let Account { head, docs } = &mut self.model[*log];
            *head += 1;
            for change in &part.changes {
                match *change {
                    Change::Put(key, value) => drop(docs.insert(KEYS[key], (value, *head))),
                    Change::Add(key, by) => {
                        let old = docs.get(KEYS[key]).map_or(0, |doc| doc.0);
                        docs.insert(KEYS[key], (old + by, *head));
                    }
                    Change::Delete(key) => drop(docs.remove(KEYS[key])),
                }
            }
        }
    }

    fn check(&self, states: &States) {
        for (log, state) in states.iter() {
            let number: usize = log.key().parse().unwrap();
            let documents: BTreeMap<_, _> = state
                .documents("")
                .map(|(key, doc)| (key, (doc.read::<i64>().unwrap(), doc.version.0)))
                .collect();
            let Account { head, docs } = &self.model[number];
            assert_eq!((state.version.0, &documents), (*head, docs), "{}: {log}", self.what);
        }
    }
}

/// Each sequence on a place of its own.
pub async fn generated<P>(count: usize, is_faulty: bool, place: impl AsyncFn() -> (Arc<dyn Backend>, P)) {
    let mut runner = runner();
    println!("{count} sequences over several logs");
    let sequences = prop::collection::vec(step(is_faulty), 1..20);
    let (mut conflicts, mut unknown) = (0, 0);
    for number in 0..count {
        let steps = sequences.new_tree(&mut runner).unwrap().current();
        let (backend, _goes_with_it) = place().await;
        let mut run = Sequence::new(backend, is_faulty);
        for (place, step) in steps.iter().enumerate() {
            run.what = format!("sequence {number}, step {place}: {step:?}");
            run.step(step).await;
        }
        (conflicts, unknown) = (conflicts + run.conflicts, unknown + run.unknown);
        run.stores[0].shut_down().await.unwrap();
    }
    println!("{conflicts} conflicts, {unknown} unknown outcomes");
    assert!(conflicts > count / 2, "they say nothing");
    assert_eq!(unknown > 0, is_faulty, "they say nothing of what is unknown");
}
