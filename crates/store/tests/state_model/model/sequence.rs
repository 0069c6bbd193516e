//! Generated steps, each answer compared with the model's.

use super::*;

struct Sequence {
    backend: Arc<Fault>,
    clock: Arc<ManualClock>,
    stores: [Store; 2],
    model: Model,
    is_faulty: bool,
    what: String,
    forks: usize,
    ids: usize,
    unknown: usize,
    refused: usize,
    removed: usize,
}

/// What sequences have come by.
#[derive(Debug, Default)]
struct Told {
    unknown: usize,
    refused: usize,
    /// Changes that did nothing.
    in_vain: usize,
    /// Logs that were trimmed.
    trimmed: usize,
    /// Documents that were due, and those that maintenance removed.
    due: usize,
    removed: usize,
}

impl Sequence {
    fn new(backend: Arc<dyn Backend>, is_faulty: bool, state_bytes_max: u64) -> Self {
        let (backend, clock) = (Arc::new(Fault::new(backend)), Arc::new(ManualClock::default()));
        clock.set(NOW);
        let build = || {
            let mut settings = Settings::default();
            settings.append_timeout = Duration::from_millis(if is_faulty { 25 } else { 20_000 });
            settings.state_bytes_max = state_bytes_max;
            // Now and then one that is kept.
            (settings.snapshot_commits, settings.snapshot_bytes) = (3, 2_000);
            let backend = Arc::clone(&backend) as Arc<dyn Backend>;
            Store::builder(backend).settings(settings).clock(clock.clone()).build()
        };
        let stores = [build(), build()];
        let (moments, told, bases) = (vec![Moment::default()], Vec::new(), Vec::new());
        let model = Model { moments, told, now: NOW, boundary: 0, bases };
        Self {
            backend,
            clock,
            stores,
            model,
            is_faulty,
            what: String::new(),
            forks: 0,
            ids: 0,
            unknown: 0,
            refused: 0,
            removed: 0,
        }
    }

    fn log(&self, store: usize) -> Log {
        log(&self.stores[store % 2])
    }

    fn id(&mut self) -> EntryId {
        self.ids += 1;
        EntryId::new(format!("id-{}", self.ids)).unwrap()
    }

    /// Until it answers; from the other store after each try that did not.
    async fn try_until_told<T>(
        &mut self,
        store: usize,
        mut attempt: impl AsyncFnMut(Log) -> Result<T>,
    ) -> (Result<T>, bool) {
        let each = async |number: usize| attempt(self.log(store + number)).await;
        let (told, unknown) = until_told(self.is_faulty, &self.what, each).await;
        self.unknown += unknown;
        (told, unknown > 0)
    }

    async fn state(&mut self, store: usize, at: At) -> Result<Arc<State>> {
        self.try_until_told(store, async |log| log.state_at(at).await).await.0
    }

    async fn check_head(&mut self, store: usize) {
        let state = self.try_until_told(store, async |log| log.state().await).await.0.unwrap();
        let what = self.what.clone();
        self.model.check(self.model.moments.len() - 1, self.model.now, &state, &what);
    }

    async fn step(&mut self, step: &Step) {
        let store = step.store;
        let what = self.what.clone();
        if self.is_faulty {
            self.backend.plan(step.fates.iter().copied());
            self.backend.refuse_reads(step.reads_refused);
        }
        match &step.op {
            Op::One(change) if !self.is_faulty => {
                let log = self.log(store);
                let receipt = match change {
                    Change::Put(key, value) => log.put(KEYS[*key], of(value)).await,
                    Change::Patch(key, value) => log.patch(KEYS[*key], of(value)).await,
                    Change::Delete(key) => log.delete(KEYS[*key]).await,
                    Change::Merge(key, merged) => log.merge(KEYS[*key], merged.merge()).await,
                    Change::Expire(key, expiry) => log.expire(KEYS[*key], *expiry).await.map(Option::unwrap),
                    Change::Touch(key) => log.touch(KEYS[*key]).await.map(Option::unwrap),
                    Change::ExpireLog(expiry) => log.expire_log(*expiry).await,
                };
                let must_exist = match change {
                    Change::Expire(key, _) | Change::Touch(key) => {
                        failing(&[Condition::Exists(KEYS[*key].to_owned())], &self.model)
                    }
                    _ => Vec::new(),
                };
                if let Err(error) = &receipt {
                    let in_vain = self.model.in_vain(std::slice::from_ref(change));
                    self.refused += 1;
                    let refused = if must_exist.is_empty() { in_vain } else { must_exist };
                    assert_eq!(failed(error), refused, "{what}");
                    assert!(!refused.is_empty(), "{what}");
                    return;
                }
                assert_eq!(must_exist, Vec::<String>::new(), "{what}");
                self.model.apply(&made(std::slice::from_ref(change)));
                assert_eq!(receipt.unwrap().version.0, self.model.head(), "{what}");
            }
            Op::One(change) => {
                self.commit(store, std::slice::from_ref(change), &[], true, false).await;
            }
            Op::Commit { changes, asks, has_id } => self.commit(store, changes, asks, *has_id, false).await,
            Op::Transact { changes, asks, has_id } => self.commit(store, changes, asks, *has_id, true).await,
            Op::Append => {
                let entry = Entry::new(event("beside")).with_id(self.id());
                let told = self.try_until_told(store, async |log| log.append(entry.clone()).await).await.0;
                self.model.apply(&[]);
                assert_eq!(told.unwrap().version.0, self.model.head(), "{what}");
            }
            Op::Tick(by) => {
                self.model.now += by;
                self.clock.set(self.model.now);
                return;
            }
            Op::StateAt(when) => {
                let (at, wanted) = self.model.at(*when);
                match (self.state(store, at).await, wanted) {
                    (Ok(state), Some(version)) => {
                        self.model.check(version, self.model.seen_as_of(at, version), &state, &what);
                    }
                    (Err(error), None) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound, "{what}");
                        let (head, boundary) = (self.model.head(), self.model.boundary);
                        let facts = [("found", head), ("trimmed_through", boundary)];
                        let is_told = |(name, value): (&str, u64)| {
                            error.fact(name).is_some_and(|found| *found == value.to_string())
                        };
                        assert!(facts.into_iter().any(is_told), "{what}: {error}");
                    }
                    other => unreachable!("{what}: {other:?}"),
                }
            }
            Op::Pages { prefix, size } => {
                let state = self.state(store, At::Head).await.unwrap();
                let prefix = PREFIXES[*prefix];
                let (mut keys, mut after) = (Vec::new(), None::<String>);
                loop {
                    let page = state.after(prefix, after.as_deref()).take(*size);
                    let page: Vec<_> = page.map(|(key, _)| key.to_owned()).collect();
                    let Some(last) = page.last() else { break };
                    after = Some(last.clone());
                    keys.extend(page);
                }
                let wanted = self.model.last().seen(self.model.now);
                assert!(
                    keys.iter().eq(wanted.keys().filter(|key| key.starts_with(prefix))),
                    "{what}: {keys:?}"
                );
            }
            Op::Diff(from, to) => self.diff(store, *from, *to).await,
            Op::Rollback(when) => self.rollback(store, *when).await,
            Op::Fork(when) => self.fork(store, *when).await,
            Op::History(key) => {
                let read = async |log: Log| {
                    let (mut history, mut found) = (log.history(KEYS[*key]), Vec::new());
                    loop {
                        let page = history.next_page().await?;
                        if page.is_empty() {
                            return Ok(found);
                        }
                        found.extend(page);
                    }
                };
                let found = self.try_until_told(store, read).await.0;
                if self.model.head() == 0 {
                    assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
                    return;
                }
                self.check_history(KEYS[*key], found.unwrap());
            }
            Op::Base => {
                let told = self.try_until_told(store, async |log| log.write_base().await).await.0;
                self.check_base(store, told.map(|receipt| receipt.version)).await;
            }
            Op::Trim(commits) => {
                let keep = Keep { commits: Some(*commits), ..Keep::default() };
                let trim = Trim { keep, ..Trim::default() };
                let (head, before) = (self.model.head(), self.model.boundary);
                let told = self.try_until_told(store, async |log| log.trim(&trim).await).await.0;
                if !self.is_faulty
                    && let Ok(trimmed) = &told
                {
                    let through = head.saturating_sub(*commits).min(head - 1).max(before);
                    assert_eq!((trimmed.through.0, trimmed.commits), (through, through - before), "{what}");
                    let newest = self.model.bases.last().copied().unwrap_or(1);
                    let writes_base = through > before && newest <= through;
                    assert_eq!(trimmed.writes_base, writes_base, "{what}");
                }
                self.check_base(store, told.map(|trimmed| trimmed.through)).await;
            }
            Op::Maintain(minutes) => self.maintain(store, *minutes).await,
            Op::Land => drop(self.backend.land().await),
        }
        self.check_head(store).await;
    }

    /// Takes over how far the log was trimmed, and the bases that were written: after a lost answer there may be several.
    async fn check_base(&mut self, store: usize, told: Result<Version>) {
        let what = self.what.clone();
        let Ok(version) = told else {
            let error = told.unwrap_err();
            assert_eq!((error.kind(), self.model.head()), (ErrorKind::NotFound, 0), "{what}: {error}");
            return;
        };
        let head = self.try_until_told(store, async |log| log.head().await).await.0.unwrap().unwrap();
        assert!(version <= head.version && head.boundary < head.version, "{what}");
        while self.model.head() < head.version.0 {
            self.model.base();
        }
        assert!(self.model.boundary <= head.boundary.0, "{what}");
        self.model.boundary = head.boundary.0;
        assert!(self.model.is_known(head.version.0), "{what}: there is no base behind what was trimmed");
    }

    /// What is due may be removed, all of it and nothing else; and is, if it has long been. A log that is due itself would be ended, of which the
    /// model knows nothing.
    async fn maintain(&mut self, store: usize, minutes: i64) {
        let what = self.what.clone();
        self.model.now += minutes * MINUTE;
        self.clock.set(self.model.now);
        let Life { expiry, used, .. } = self.model.last().life;
        if self.is_faulty || self.model.head() == 0 || !lasts(expiry, used, self.model.now) {
            return;
        }
        let pace = Pace { every: Duration::from_nanos(1), logs_per_second: u32::MAX };
        let done = self.stores[store].maintain_once(pace, |_| ()).await.unwrap();
        assert!(done.as_ref().is_none_or(|done| done.first_error.is_none()), "{what}");
        let head = self.log(store).head().await.unwrap().unwrap().version.0;
        let (now, last) = (self.model.now, self.model.last());
        if head == self.model.head() {
            // A note is of ten minutes, and as old before it is taken for true.
            let long = now - 20 * MINUTE;
            let is_late = |doc: &Doc| doc.at <= long && !lasts(doc.expiry, doc.at, long);
            assert!(done.is_none() || !last.docs.values().any(is_late), "{what}: {last:?}");
            return;
        }
        let gone: Vec<_> = last.docs.iter().filter(|(_, doc)| !last.has(doc, now)).collect();
        let deletes: Vec<_> = gone.into_iter().map(|(key, _)| Done::new(key, "delete", None, None)).collect();
        assert!(!deletes.is_empty(), "{what}");
        self.removed += deletes.len();
        self.model.commit(&deletes, false);
        assert_eq!(head, self.model.head(), "{what}");
    }

    fn check_history(&self, key: &str, found: Vec<Changed>) {
        let (what, model) = (&self.what, &self.model);
        let told =
            model.told.iter().rev().filter(|(version, found, ..)| found == key && *version > model.boundary);
        let mut found = found.into_iter();
        for (version, _, change, value, pointer, is_done) in told {
            let one = found.next();
            assert!(one.is_some(), "{what}: {version} is not there");
            let one = one.unwrap();
            assert_eq!((one.version.0, one.change, &one.pointer), (*version, *change, pointer), "{what}");
            // Where what was before it was trimmed, a put may only say what differs, and of a merge nobody knows.
            let is_known = model.is_known(version - 1);
            let is_merge = !["put", "patch", "delete"].contains(change);
            assert_eq!(one.applied, (is_known || !is_merge).then_some(*is_done), "{what}: {one:?}");
            assert!(
                one.value == *value || (!is_known && *change == "put" && one.value.is_none()),
                "{what}: {one:?}"
            );
        }
        let kept = model.kept(key).map(|doc| ("kept", doc.version, Some(doc.value.clone())));
        let left: Vec<_> = found.map(|one| (one.change, one.version.0, one.value)).collect();
        assert_eq!(left, Vec::from_iter(kept), "{what}");
    }

    async fn commit(
        &mut self,
        store: usize,
        changes: &[Change],
        asks: &[Ask],
        has_id: bool,
        is_transaction: bool,
    ) {
        let what = self.what.clone();
        let conditions: Vec<_> = asks.iter().map(|ask| ask.condition(&KEYS, &self.model)).collect();
        let (not_held, in_vain) = (failing(&conditions, &self.model), self.model.in_vain(changes));
        // Without a condition, and outside of a transaction, it is not always looked at.
        let is_looked_at = is_transaction || !conditions.is_empty();
        let failing = if not_held.is_empty() && is_looked_at { in_vain.clone() } else { not_held };
        let id = (has_id || self.is_faulty).then(|| self.id());
        let wanted = asked(changes, &conditions, id.as_ref());
        let (told, was_unknown) = if is_transaction {
            let version = self.model.head();
            let seen = Arc::new(AtomicUsize::new(0));
            let is_faulty = self.is_faulty;
            let told = self
                .try_until_told(store, async |log| {
                    log.transact(|state| {
                        seen.fetch_add(1, Ordering::SeqCst);
                        assert!(is_faulty || state.version.0 == version, "{what}: an old state");
                        Ok(wanted.clone())
                    })
                    .await
                })
                .await;
            assert!(is_faulty || seen.load(Ordering::SeqCst) == 1, "{what}: run {seen:?} times");
            told
        } else {
            self.try_until_told(store, async |log| log.commit(wanted.clone()).await).await
        };
        match told {
            Err(error) => {
                let failing = if is_looked_at { failing } else { in_vain };
                self.refused += 1;
                assert_eq!(failed(&error), failing, "{what}: {error}");
                assert!(!failing.is_empty(), "{what}: {error}");
                if let (true, Some(id)) = (was_unknown, id) {
                    self.settle(store, &id, changes, is_looked_at).await;
                }
            }
            Ok(receipt) => {
                assert_eq!(failing, Vec::<String>::new(), "{what}");
                assert_eq!(receipt.is_none(), changes.is_empty(), "{what}");
                let Some(receipt) = receipt else { return };
                self.model.apply(&made(changes));
                assert_eq!((receipt.version.0, receipt.id), (self.model.head(), id.clone()), "{what}");
                assert!(self.is_faulty || !receipt.repeated, "{what}");
                if id.is_some() {
                    // Once more, from elsewhere: it was done.
                    let again = self.try_until_told(store + 1, async |log| log.commit(wanted.clone()).await);
                    let again = again.await.0.unwrap().unwrap();
                    assert_eq!((again.version.0, again.repeated), (self.model.head(), true), "{what}");
                }
            }
        }
    }

    /// A try of which nobody knew what became of it may land behind the refusal of the next one, if it was not looked at. Asked for its id, the
    /// log says for certain, and takes slots for that.
    async fn settle(&mut self, store: usize, id: &EntryId, changes: &[Change], is_looked_at: bool) {
        let what = self.what.clone();
        let told = self.try_until_told(store, async |log| log.resolve(id).await).await.0.unwrap();
        let head = self.try_until_told(store, async |log| log.head().await).await.0.unwrap();
        while self.model.head() < head.as_ref().map_or(0, |head| head.version.0) {
            match &told {
                Resolved::Committed(receipt) if receipt.version.0 == self.model.head() + 1 => {
                    assert!(!is_looked_at, "{what}: it was refused, and landed");
                    self.model.apply(&made(changes));
                }
                _ => self.model.commit(&[], false),
            }
        }
    }

    /// Everything once more, from both stores.
    async fn end(mut self, all: &mut Told) {
        self.is_faulty = true;
        self.backend.land().await;
        for store in 0..2 {
            self.check_head(store).await;
            for version in 0..self.model.moments.len() {
                let at = At::Version(Version(version as u64));
                let state = self.state(store, at).await;
                if self.model.is_known(version as u64) {
                    let seen_as_of = self.model.seen_as_of(at, version);
                    self.model.check(version, seen_as_of, &state.unwrap(), &self.what);
                } else {
                    assert_eq!(state.unwrap_err().kind(), ErrorKind::NotFound, "{}", self.what);
                }
            }
        }
        self.backend.refuse_reads(0);
        let verified = self.stores[0].verify(&LogPrefix::all(), |_| ()).await.unwrap();
        assert!(verified.damage.is_empty(), "{}", self.what);
        all.unknown += self.unknown;
        all.refused += self.refused;
        all.removed += self.removed;
        all.trimmed += usize::from(self.model.boundary > 0);
        all.in_vain += self.model.told.iter().filter(|(.., is_done)| !is_done).count();
        let last = self.model.last();
        all.due += last.docs.len() - last.seen(self.model.now).len();
        self.stores[0].shut_down().await.unwrap();
    }

    async fn diff(&mut self, store: usize, from: When, to: When) {
        let what = self.what.clone();
        let ((at_from, from), (at_to, to)) = (self.model.at(from), self.model.at(to));
        let told = self.try_until_told(store, async |log| log.diff(at_from, at_to).await).await.0;
        let (Some(from), Some(to)) = (from, to) else {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
            return;
        };
        let diff = told.unwrap();
        assert_eq!((diff.from.0 as usize, diff.to.0 as usize), (from, to), "{what}");
        let [from, to] = [(from, at_from), (to, at_to)]
            .map(|(version, at)| self.model.moments[version].seen(self.model.seen_as_of(at, version)));
        let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
        let value = |docs: &BTreeMap<&str, &Doc>, key: &str| docs.get(key).map(|doc| doc.value.clone());
        let wanted: Vec<_> = keys
            .into_iter()
            .map(|key| ((*key).to_owned(), value(&from, key), value(&to, key)))
            .filter(|(_, from, to)| from != to)
            .collect();
        let found: Vec<_> =
            diff.differences.iter().map(|one| (one.key.clone(), one.from.clone(), one.to.clone())).collect();
        assert_eq!(found, wanted, "{what}");
        let object = |docs: &BTreeMap<&str, &Doc>| {
            Value::Object(docs.iter().map(|(key, doc)| ((*key).to_owned(), doc.value.clone())).collect())
        };
        let mut patched = object(&from);
        for operation in diff.json_patch().as_array().unwrap() {
            apply_json_patch(&mut patched, operation);
        }
        assert_eq!(patched, object(&to), "{what}: {}", diff.json_patch());
    }

    async fn rollback(&mut self, store: usize, when: When) {
        let what = self.what.clone();
        let (at, version) = self.model.at(when);
        let (told, was_unknown) = self.try_until_told(store, async |log| log.rollback(at).await).await;
        let Some(version) = version else {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
            return;
        };
        let wanted = self.model.moments[version].seen(self.model.seen_as_of(at, version));
        let now = self.model.last().seen(self.model.next_at());
        // What was due by a time since then stays gone; and what says the same in other words stays as it is.
        let is_over = |doc: &Doc| self.model.is_over(doc);
        let mut changes = Vec::new();
        for key in wanted.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let (wanted, now) = (wanted.get(key), now.get(key));
            let is_same = wanted.map(|doc| &doc.value) == now.map(|doc| &doc.value);
            match wanted.filter(|doc| !is_over(doc)) {
                _ if is_same => {}
                Some(doc) => changes.push(Done::new(key, "put", Some(doc.value.clone()), doc.json.clone())),
                None if now.is_some() => changes.push(Done::new(key, "delete", None, None)),
                None => {}
            }
        }
        for (key, doc) in wanted.iter().filter(|(_, doc)| !is_over(doc)) {
            if now.get(key).and_then(|now| now.expiry) != doc.expiry {
                changes.push(Done::expire(key, doc.expiry));
            }
        }
        let receipt = told.unwrap();
        assert!(was_unknown || receipt.is_none() == changes.is_empty(), "{what}: {receipt:?}");
        if !changes.is_empty() {
            self.model.apply(&changes);
        }
        assert!(receipt.is_none_or(|receipt| receipt.version.0 == self.model.head()), "{what}");
    }

    async fn fork(&mut self, store: usize, when: When) {
        let what = self.what.clone();
        self.forks += 1;
        let name = LogId::new("acme", "fork", &format!("f-{}", self.forks)).unwrap();
        let (at, version) = self.model.at(when);
        let (told, was_unknown) = self.try_until_told(store, async |log| log.fork(&name, at).await).await;
        let Some(version) = version else {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::NotFound, "{what}");
            return;
        };
        match told {
            Ok(receipt) => assert_eq!(receipt.version, Version(1), "{what}"),
            // Its first try was carried out.
            Err(error) => assert!(was_unknown && error.kind() == ErrorKind::Conflict, "{what}: {error}"),
        }
        let (fork, clone) = (name.clone(), &self.stores[(store + 1) % 2].clone());
        let state =
            self.try_until_told(store, async |_| clone.log(fork.clone()).state().await).await.0.unwrap();
        assert_eq!(state.version, Version(1), "{what}");
        let found =
            state.documents("").map(|(key, doc)| (key, doc.value().unwrap(), doc.version.0, doc.expiry));
        let wanted = self.model.moments[version].seen(self.model.seen_as_of(at, version));
        let wanted = wanted.into_iter().filter(|(_, doc)| !self.model.is_over(doc));
        assert!(found.eq(wanted.map(|(key, doc)| (key, doc.value.clone(), 1, doc.expiry))), "{what}");
    }
}

/// So many, or fifty times as many.
pub fn rounds(count: usize) -> usize {
    if std::env::var_os("ICECORE_LONG").is_some() { 50 * count } else { count }
}

/// The same sequences for the same seed, which is printed.
pub fn runner() -> TestRunner {
    let seed = std::env::var("ICECORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1CE_u64);
    println!("seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Each sequence on a place of its own, of which a backend is opened and something that goes with it.
pub async fn generated<P>(count: usize, is_faulty: bool, place: impl AsyncFn() -> (Arc<dyn Backend>, P)) {
    println!("{count} sequences");
    let mut runner = runner();
    let sequences = proptest::collection::vec(step(is_faulty), 1..40);
    let mut all = Told::default();
    for number in 0..count {
        let steps = sequences.new_tree(&mut runner).unwrap().current();
        let (backend, _goes_with_it) = place().await;
        let mut run = Sequence::new(backend, is_faulty, [0, 1 << 30][number % 2]);
        for (place, step) in steps.iter().enumerate() {
            run.what = format!("sequence {number}, step {place}: {step:?}");
            run.step(step).await;
        }
        run.what = format!("sequence {number}, at its end");
        run.end(&mut all).await;
    }
    println!("{all:?}");
    let is_enough = all.in_vain > 0 && all.refused > count / 10 && all.trimmed > count / 10;
    assert!(is_enough && all.due > count / 10, "they say nothing");
    assert!(is_faulty || count < 100 || all.removed > 0, "they say nothing of maintenance");
    assert!(!is_faulty || all.unknown > count / 4, "they say nothing of what is unknown");
}
