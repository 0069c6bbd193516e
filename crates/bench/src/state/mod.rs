//! State that grows, beside LangGraph's savers: the same turns, in the same run, and as durable.
//!
//! A turn is two commits, as LangGraph stores it by two calls: the document as it is now (`put`), and what this turn wrote
//! (`put_writes`). Both sides serialise and read values of the program's own in the time that is measured.

mod peers;
mod place;
mod time;
mod workload;

use std::time::Instant;

use icecore::{At, Changes, Document, Error, ErrorKind, Event, Json, Log, LogId, Result, Store, Version};
use icecore_services::postgres::Server;
use serde::Serialize;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::file::folder;
use crate::measure::{Measure, Report, Round, milliseconds, spread};
use crate::memory::all;
use crate::postgres::said;
use peers::Peers;
use place::{Place, System};
use workload::{Small, Turn, Workload, json};

const PARTS: [&str; 5] = ["growing", "latest", "small", "time", "slope"];
/// The document that grows.
const DOCUMENT: &str = "thread";
const TURNS: usize = 200;
/// Conversations at once.
const MANY: usize = 64;
/// Turns of each; LangGraph takes 50, and rates are compared.
const MANY_TURNS: usize = 500;
const WARM_READS: usize = 200;
const COLD_READS: usize = 15;

/// Whether a turn is committed as LangGraph does, or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commits {
    Two,
    One,
}

/// What is common to all parts.
struct Bench {
    systems: Vec<System>,
    server: Option<Server>,
    /// What LangGraph reads.
    workload: TempDir,
    turns: Vec<Turn>,
    small: Vec<Small>,
}

pub async fn run(report: &mut Report, chosen: &[&String]) -> Result<()> {
    let is_chosen = |name: &str| chosen.iter().any(|chosen| *chosen == name);
    let named: Vec<_> = System::ALL.into_iter().filter(|system| is_chosen(system.name())).collect();
    let is_known = |name: &str| PARTS.contains(&name) || named.iter().any(|system| system.name() == name);
    if let Some(unknown) = chosen.iter().find(|name| !is_known(name)) {
        return Err(Error::new(ErrorKind::Invalid, "choosing what to measure")
            .with("unknown", unknown)
            .advise("See `--help`"));
    }
    let is_wanted = |part: &str| !PARTS.iter().any(|part| is_chosen(part)) || is_chosen(part);
    let systems = if named.is_empty() { System::ALL.to_vec() } else { named.clone() };
    let mut workload = Workload::new()?;
    let mut bench = Bench {
        server: match systems.contains(&System::Postgres) {
            true => Some(Server::start(&[]).map_err(said)?),
            false => None,
        },
        systems,
        workload: folder()?,
        turns: workload.turns(TURNS),
        small: workload.small(50),
    };
    workload::write(&bench.turns, &bench.workload.path().join("turns.jsonl"))?;
    workload::write(&bench.small, &bench.workload.path().join("small.jsonl"))?;
    if is_wanted("growing") || is_wanted("latest") {
        bench.growing(report, is_wanted("growing"), is_wanted("latest")).await?;
    }
    if is_wanted("small") {
        bench.small(report).await?;
    }
    if named.is_empty() {
        bench.systems = vec![System::File];
    }
    if is_wanted("time") {
        bench.time(report, &mut workload).await?;
    }
    if is_wanted("slope") {
        bench.slope(report, &mut workload).await?;
    }
    Ok(())
}

/// A conversation that grew in one round, and reads of it; seconds.
#[derive(Clone)]
struct Grown {
    two: f64,
    one: f64,
    bytes_two: f64,
    bytes_one: f64,
    warm_stored: f64,
    warm: f64,
    warm_value: f64,
    past: f64,
    cold: f64,
    /// What of that is opening.
    open: f64,
}

impl Bench {
    async fn growing(&self, report: &mut Report, has_writes: bool, has_reads: bool) -> Result<()> {
        let (mut theirs, mut ours) = (Vec::new(), vec![Vec::new(); self.systems.len()]);
        for _ in 0..report.rounds() {
            theirs.push(self.peers("growing")?);
            for (system, rounds) in self.systems.iter().zip(&mut ours) {
                rounds.push(self.grown(*system).await?);
            }
        }
        self.durability(report, &theirs)?;
        let document = json(&self.turns)?.len() as f64;
        for (system, ours) in self.systems.iter().zip(&ours) {
            let (name, peer) = (system.name(), system.peer().name());
            let saver = |channel: &str| match channel {
                "values" => format!("its {peer} saver"),
                _ => format!("its {peer} saver with a DeltaChannel (beta)"),
            };
            let pairs = |channel: &str, what: &str, ours_of: fn(&Grown) -> f64, divide: f64| {
                let pair = |(ours, theirs): (&Grown, &Peers)| {
                    let yardstick = theirs.number(&format!("{peer} {channel}"), what)? / divide;
                    Ok(Round { ours: ours_of(ours) / divide, yardstick })
                };
                ours.iter().zip(&theirs).map(pair).collect::<Result<Vec<_>>>()
            };
            let turns = TURNS as f64;
            let rate = Measure::Rate("turns/s");
            if has_writes {
                let what = format!("{name}, one conversation of {TURNS} turns");
                let target = if *system == System::Postgres { "8x" } else { "2.5x" };
                let two = |channel| pairs(channel, "seconds", |grown| grown.two, turns);
                let one = pairs("values", "seconds", |grown| grown.one, turns)?;
                report.beside(&what, rate, &two("values")?, &saver("values"), target);
                report.beside(&what, rate, &two("deltas")?, &saver("deltas"), "");
                report.beside(&format!("{what}, one commit each"), rate, &one, &saver("values"), "");
                let what = format!("{name}, bytes of that");
                let target = if *system == System::File { "1/75" } else { "1/50" };
                let two = |channel| pairs(channel, "bytes", |grown| grown.bytes_two, 1.0);
                let one = pairs("values", "bytes", |grown| grown.bytes_one, 1.0)?;
                report.beside(&what, Measure::Bytes, &two("values")?, &saver("values"), target);
                report.beside(&what, Measure::Bytes, &two("deltas")?, &saver("deltas"), "");
                report.beside(
                    &format!("{what}, one commit each"),
                    Measure::Bytes,
                    &one,
                    &saver("values"),
                    "",
                );
                let of_document =
                    ours.iter().map(|grown| Round { ours: grown.bytes_two, yardstick: document });
                let of_document: Vec<_> = of_document.collect();
                let target = if *system == System::File { "1.5x" } else { "" };
                report.beside(&what, Measure::Bytes, &of_document, "the document at the end", target);
            }
            if has_reads {
                let what = format!("{name}, its latest state");
                let (warm_target, cold_target) =
                    if *system == System::Postgres { ("", "0.5x") } else { ("1x", "3x") };
                let mut row =
                    |what: &str, channel: &str, theirs: &str, ours: fn(&Grown) -> f64, target: &str| {
                        let rounds = pairs(channel, theirs, ours, 1.0)?;
                        report.beside(what, Measure::Time, &rounds, &saver(channel), target);
                        Ok(())
                    };
                row(&format!("{what}, warm"), "values", "warm", |grown| grown.warm, warm_target)?;
                row(&format!("{what}, warm"), "deltas", "warm", |grown| grown.warm, "")?;
                row(&format!("{what}, warm, any JSON"), "values", "warm", |grown| grown.warm_value, "")?;
                row(&format!("{what}, warm, not decoded"), "values", "warm", |grown| grown.warm_stored, "")?;
                let past = format!("{name}, its state at turn {}, by then past", TURNS * 3 / 4);
                row(&past, "values", "past", |grown| grown.past, "")?;
                row(&past, "deltas", "past", |grown| grown.past, "")?;
                row(&format!("{what}, cold"), "values", "cold", |grown| grown.cold, cold_target)?;
                row(&format!("{what}, cold"), "deltas", "cold", |grown| grown.cold, "")?;
                let (open, ..) = spread(ours.iter().map(|grown| grown.open).collect());
                report.fact(&format!("{what}, cold: opening the store, of that"), &milliseconds(open), "");
            }
        }
        Ok(())
    }

    async fn grown(&self, system: System) -> Result<Grown> {
        let one = self.place(system)?;
        let store = one.open().await?;
        let one_seconds = self.grow(&store, Commits::One).await?;
        store.shut_down().await?;

        let two = self.place(system)?;
        let store = two.open().await?;
        let two_seconds = self.grow(&store, Commits::Two).await?;
        store.shut_down().await?;
        let bytes_two = two.bytes()?;

        let store = two.open().await?;
        let log = store.log(log("growing")?);
        let found: Vec<Turn> = latest(&log).await?.read()?;
        assert!(found == self.turns, "what is read is not what was written");
        let warm_stored = median(WARM_READS, async || latest(&log).await.map(drop)).await?;
        let warm = median(WARM_READS, async || latest(&log).await?.read::<Vec<Turn>>().map(drop)).await?;
        let warm_value = median(WARM_READS, async || latest(&log).await?.value().map(drop)).await?;
        // Two commits a turn.
        let middle = Version(2 * (TURNS * 3 / 4) as u64);
        let past = async || {
            let state = log.state_at(At::Version(middle)).await?;
            let found = state.get(DOCUMENT).map(Document::read::<Vec<Turn>>).transpose()?;
            assert!(found.is_some_and(|found| found.len() == TURNS * 3 / 4), "it is of another version");
            Ok(())
        };
        let past = median(WARM_READS, past).await?;
        store.shut_down().await?;
        drop((log, store));
        let (mut cold, mut open) = (Vec::new(), Vec::new());
        for _ in 0..COLD_READS {
            let started = Instant::now();
            let store = two.open().await?;
            open.push(started.elapsed().as_secs_f64());
            drop(latest(&store.log(self::log("growing")?)).await?.read::<Vec<Turn>>()?);
            cold.push(started.elapsed().as_secs_f64());
            store.shut_down().await?;
        }
        Ok(Grown {
            two: two_seconds,
            one: one_seconds,
            bytes_two,
            bytes_one: one.bytes()?,
            warm_stored,
            warm,
            warm_value,
            past,
            cold: spread(cold).0,
            open: spread(open).0,
        })
    }

    /// In a task of the runtime, as a server's handlers are: from a thread outside it, each commit wakes one of its threads first.
    async fn grow(&self, store: &Store, commits: Commits) -> Result<f64> {
        let (log, turns) = (store.log(log("growing")?), self.turns.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut conversation = Vec::new();
            for turn in &turns {
                conversation.push(turn);
                write(&log, &conversation, turn, commits).await?;
            }
            Ok(())
        });
        let started = Instant::now();
        all(&mut running).await?;
        Ok(started.elapsed().as_secs_f64())
    }

    async fn small(&self, report: &mut Report) -> Result<()> {
        let (mut theirs, mut ours) = (Vec::new(), vec![Vec::new(); self.systems.len()]);
        for _ in 0..report.rounds() {
            theirs.push(self.peers("small")?);
            for (system, rounds) in self.systems.iter().zip(&mut ours) {
                let two = self.many(*system, Commits::Two).await?;
                rounds.push((two, self.many(*system, Commits::One).await?));
            }
        }
        self.durability(report, &theirs)?;
        for (system, ours) in self.systems.iter().zip(&ours) {
            let savers: &[(&str, &str, &str)] = match system {
                System::Postgres => &[
                    ("postgres", "its postgres saver, one over a pool of 16 for 64 threads", "15x"),
                    ("postgres own", "its postgres saver, one a thread over a pool of 16", ""),
                ],
                _ => &[("sqlite", "its sqlite saver, one for 64 threads", "20x")],
            };
            let what = format!("{}, {MANY} conversations at once, documents of 200 B", system.name());
            for (key, saver, target) in savers {
                for (commits, target) in [(Commits::Two, *target), (Commits::One, "")] {
                    let pair = |((two, one), theirs): (&(f64, f64), &Peers)| {
                        let yardstick = theirs.number(key, "seconds")? / theirs.number(key, "turns")?;
                        Ok(Round { ours: if commits == Commits::Two { *two } else { *one }, yardstick })
                    };
                    let rounds = ours.iter().zip(&theirs).map(pair).collect::<Result<Vec<_>>>()?;
                    let what = if commits == Commits::Two {
                        what.clone()
                    } else {
                        format!("{what}, one commit each")
                    };
                    report.beside(&what, Measure::Rate("turns/s"), &rounds, saver, target);
                }
            }
        }
        Ok(())
    }

    /// Seconds for a turn, of many conversations at once.
    async fn many(&self, system: System, commits: Commits) -> Result<f64> {
        let place = self.place(system)?;
        let store = place.open().await?;
        // One turn before: a log is open then, as LangGraph's connections are.
        self.converse(&store, 1, commits).await?;
        let started = Instant::now();
        self.converse(&store, MANY_TURNS, commits).await?;
        let elapsed = started.elapsed().as_secs_f64();
        store.shut_down().await?;
        Ok(elapsed / (MANY * MANY_TURNS) as f64)
    }

    async fn converse(&self, store: &Store, turns: usize, commits: Commits) -> Result<()> {
        let mut running = JoinSet::new();
        for number in 0..MANY {
            let (log, small) = (store.log(log(&format!("s-{number}"))?), self.small.clone());
            running.spawn(async move {
                for turn in small.iter().cycle().take(turns) {
                    write(&log, turn, turn, commits).await?;
                }
                Ok(())
            });
        }
        all(&mut running).await
    }

    fn place(&self, system: System) -> Result<Place> {
        Place::new(system, self.server.as_ref())
    }

    fn peers(&self, part: &str) -> Result<Peers> {
        Peers::measure(part, self.workload.path(), &self.systems, self.server.as_ref())
    }

    /// As the savers themselves found it. Ours are as durable, or would not open, or say so.
    fn durability(&self, report: &mut Report, theirs: &[Peers]) -> Result<()> {
        for system in [System::Sqlite, System::Postgres] {
            if let Some(theirs) =
                theirs.first().filter(|_| self.systems.iter().any(|one| one.peer() == system))
            {
                report.fact(&format!("LangGraph's {} saver", system.name()), theirs.durability(system)?, "");
            }
        }
        Ok(())
    }
}

/// What a turn makes of a document, and what it wrote itself.
async fn write<D: Serialize, T: Serialize>(
    log: &Log,
    document: &D,
    turn: &T,
    commits: Commits,
) -> Result<()> {
    let document = Json::of(document)?;
    match commits {
        Commits::Two => {
            log.put(DOCUMENT, document).await?;
            log.append(Event::new("write", json(turn)?)).await?;
        }
        Commits::One => {
            let changes = Changes::new().event(Event::new("write", json(turn)?)).put(DOCUMENT, document);
            log.commit(changes).await?;
        }
    }
    Ok(())
}

fn log(name: &str) -> Result<LogId> {
    LogId::new("acme", "bench", name)
}

async fn latest(log: &Log) -> Result<Document> {
    let found = log.document(DOCUMENT).await?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, "reading the latest state"))
}

/// The median of the seconds that so many take, one after the other.
async fn median(count: usize, mut work: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let mut seconds = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        work().await?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(spread(seconds).0)
}
