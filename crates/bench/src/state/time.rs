//! Long logs: what their length costs, reading a state as it was, and how bytes follow turns.

use std::time::Instant;

use icecore::{At, Json, Log, Result, Version};

use crate::measure::{Measure, Report, Round, milliseconds, spread};
use crate::state::place::{Place, System};
use crate::state::workload::{Chance, Workload, json};
use crate::state::{Bench, DOCUMENT, log};

/// Turns that a window holds: 100 KB.
const WINDOW: usize = 50;
/// Turns of a document of 2 MB.
const LARGE: usize = 1_050;
/// Versions that are read in a round.
const VERSIONS: usize = 50;

/// How many commits a long log has.
fn commits() -> usize {
    let given = std::env::var("ICECORE_BENCH_COMMITS").ok().and_then(|given| given.parse().ok());
    given.unwrap_or(10_000).max(1_000)
}

impl Bench {
    /// The state of a long log beside that of a short one, and states of the long one as they were.
    pub async fn time(&self, report: &mut Report, workload: &mut Workload) -> Result<()> {
        let turns = texts(workload, commits().max(LARGE) + commits())?;
        for system in &self.systems {
            let place = self.place(*system)?;
            self.lengths(report, *system, &place, &turns).await?;
            let window = |version: usize| list(&turns[version.saturating_sub(WINDOW)..version]);
            let what = format!("{}, a state of {} KB as it was", system.name(), window(WINDOW).len() / 1_000);
            versions(report, &what, "5 ms", &place, "long", &window).await?;
            drop(place);

            let place = self.place(*system)?;
            let changes = Changes::new(&turns);
            changes.put(&place).await?;
            let what = format!(
                "{}, one of {:.1} MB of which each commit changed one turn",
                system.name(),
                changes.at(1).len() as f64 / 1e6
            );
            versions(report, &what, "20 ms", &place, "large", &|version| changes.at(version)).await?;
        }
        Ok(())
    }

    /// The current state, read by a store that has just been opened, and again.
    async fn lengths(
        &self,
        report: &mut Report,
        system: System,
        place: &Place,
        turns: &[Vec<u8>],
    ) -> Result<()> {
        const SHORT: usize = 100;
        // What is read depends on how far the last snapshot is behind: both logs are read at four lengths, so far apart.
        const APART: usize = 64;
        const PHASES: usize = 4;
        let nothing = vec![Round { ours: 0.0, yardstick: 0.0 }; report.rounds() * 3];
        let (mut cold, mut warm) = (nothing.clone(), nothing);
        for phase in 0..PHASES {
            let store = place.open().await?;
            let more = APART * phase;
            for (name, count) in [("long", commits()), ("short", SHORT), ("other", 1)] {
                let log = store.log(log(name)?);
                let begin = if phase == 0 { 1 } else { count + more - APART + 1 };
                for end in begin..=count + more {
                    put(&log, list(&turns[end.saturating_sub(WINDOW)..end])).await?;
                }
            }
            store.shut_down().await?;
            for (cold, warm) in cold.iter_mut().zip(&mut warm) {
                let mut seconds = Vec::new();
                for name in ["long", "short"] {
                    let store = place.open().await?;
                    // What a store does once, whatever it reads first.
                    store.log(log("other")?).state().await?;
                    let log = store.log(log(name)?);
                    for _ in 0..2 {
                        let started = Instant::now();
                        let state = log.state().await?;
                        seconds.push(started.elapsed().as_secs_f64());
                        assert!(state.get(DOCUMENT).is_some(), "there is no document");
                    }
                    store.shut_down().await?;
                }
                for (round, read) in [(cold, 0), (warm, 1)] {
                    round.ours += seconds[read] / PHASES as f64;
                    round.yardstick += seconds[read + 2] / PHASES as f64;
                }
            }
        }
        let what = format!("{}, the state of a log of {} commits", system.name(), commits());
        let short = format!("of {SHORT} commits");
        report.beside(&format!("{what}, cold"), Measure::Time, &cold, &short, "2x");
        report.beside(&format!("{what}, warm"), Measure::Time, &warm, &short, "2x");
        Ok(())
    }

    /// How many bytes a turn adds in a long log, to how many it adds in a short one.
    pub async fn slope(&self, report: &mut Report, workload: &mut Workload) -> Result<()> {
        let turns = texts(workload, commits())?;
        for system in &self.systems {
            for (what, window) in
                [("a window of 50 turns", WINDOW), ("a conversation that only grows", turns.len())]
            {
                let place = self.place(*system)?;
                let (mut done, mut bytes) = (0, Vec::new());
                for count in [commits() / 100, commits() / 10, commits()] {
                    let store = place.open().await?;
                    let log = store.log(log("slope")?);
                    for end in done + 1..=count {
                        put(&log, list(&turns[end.saturating_sub(window)..end])).await?;
                    }
                    store.shut_down().await?;
                    done = count;
                    bytes.push((count as f64, place.bytes()?));
                }
                let slope = |part: &[(f64, f64)]| (part[1].1 - part[0].1) / (part[1].0 - part[0].0);
                let round = Round { ours: slope(&bytes[1..]), yardstick: slope(&bytes[..2]) };
                let name = system.name();
                let what =
                    format!("{name}, bytes a turn adds, {what}, from {} to {}", bytes[1].0, bytes[2].0);
                let value = format!("{:.0} B", round.ours);
                let beside = format!(
                    "{value}; {:.0} B from {} to {}; {:.0} KB in all, for {:.0} KB of turns",
                    round.yardstick,
                    bytes[0].0,
                    bytes[1].0,
                    bytes[2].1 / 1e3,
                    turns.iter().map(Vec::len).sum::<usize>() as f64 / 1e3,
                );
                report.fact(&what, &format!("{:.2}x: {beside}", round.ours / round.yardstick), "1.2x");
            }
        }
        Ok(())
    }
}

/// A document of many turns, of which each commit replaces one.
struct Changes<'a> {
    turns: &'a [Vec<u8>],
    /// Which one, of each commit but the first.
    places: Vec<usize>,
}

impl<'a> Changes<'a> {
    fn new(turns: &'a [Vec<u8>]) -> Self {
        let mut chance = Chance::new(2);
        Self { turns, places: (1..commits()).map(|_| chance.below(LARGE)).collect() }
    }

    /// The document at a version.
    fn at(&self, version: usize) -> Vec<u8> {
        let mut found: Vec<_> = self.turns[..LARGE].iter().collect();
        for (place, turn) in self.places[..version - 1].iter().zip(&self.turns[LARGE..]) {
            found[*place] = turn;
        }
        list(&found)
    }

    async fn put(&self, place: &Place) -> Result<()> {
        let store = place.open().await?;
        let log = store.log(log("large")?);
        for version in 1..=commits() {
            put(&log, self.at(version)).await?;
        }
        store.shut_down().await
    }
}

/// Reads random versions, each of which must be what was put.
async fn versions(
    report: &mut Report,
    what: &str,
    target: &str,
    place: &Place,
    name: &str,
    expected: &dyn Fn(usize) -> Vec<u8>,
) -> Result<()> {
    let store = place.open().await?;
    let log = store.log(log(name)?);
    let mut chance = Chance::new(3);
    let mut seconds = Vec::new();
    for _ in 0..report.rounds() * VERSIONS {
        let version = 1 + chance.below(commits());
        let started = Instant::now();
        let state = log.state_at(At::Version(Version(version as u64))).await?;
        seconds.push(started.elapsed().as_secs_f64());
        let found = state.get(DOCUMENT).map(|document| &document.json[..]);
        assert!(found == Some(&expected(version)[..]), "version {version} is not what was put");
    }
    store.shut_down().await?;
    seconds.sort_by(f64::total_cmp);
    let tenth = seconds[seconds.len() * 9 / 10];
    let (middle, _, worst) = spread(seconds);
    let value = format!(
        "{} (one in ten over {}, the worst {})",
        milliseconds(middle),
        milliseconds(tenth),
        milliseconds(worst)
    );
    report.fact(&format!("{what}: `state_at` a random version of {}", commits()), &value, target);
    Ok(())
}

async fn put(log: &Log, text: Vec<u8>) -> Result<()> {
    log.put(DOCUMENT, Json::text(text)?).await.map(drop)
}

/// Turns as JSON.
fn texts(workload: &mut Workload, count: usize) -> Result<Vec<Vec<u8>>> {
    workload.turns(count).iter().map(json).collect()
}

/// A JSON list of these.
fn list<T: AsRef<[u8]>>(turns: &[T]) -> Vec<u8> {
    let bytes = turns.iter().map(|turn| turn.as_ref().len() + 1).sum::<usize>();
    let mut list = Vec::with_capacity(bytes + 2);
    list.push(b'[');
    for (number, turn) in turns.iter().enumerate() {
        if number > 0 {
            list.push(b',');
        }
        list.extend_from_slice(turn.as_ref());
    }
    list.push(b']');
    list
}
