//! What a page of the list of sessions costs when there are many, and what making one does.

use std::time::Instant;

use icecore::agents::sessions::{NewSession, Of, Query, Sessions};
use icecore::agents::{SessionScope, Tenant};
use icecore::{Error, ErrorKind, Result};
use tokio::task::JoinSet;

use crate::file::folder;
use crate::measure::{Report, spread};
use crate::memory::all;

/// How many are made if it is not said.
pub const USUAL: usize = 20_000;
/// Creators at a time.
const TASKS: usize = 256;
const PER_USER: usize = 10;
/// How many pages are timed, of each kind.
pub const PAGES: usize = 100;
const LIMIT: usize = 50;

pub async fn pages(report: &mut Report, count: usize, systems: &[&String]) -> Result<()> {
    let wanted = |name: &str| systems.is_empty() || systems.iter().any(|system| *system == name);
    if wanted("file") {
        let folder = folder()?;
        of(report, "file", &format!("file:{}", folder.path().join("store").display()), count, "5 ms").await?;
    }
    #[cfg(feature = "postgres")]
    if wanted("postgres") {
        use crate::postgres::said;
        let server = icecore_services::postgres::Server::start(&[]).map_err(said)?;
        let database = icecore_services::postgres::Database::create(&server.url()).map_err(said)?;
        of(report, "PostgreSQL", &database.url(), count, "10 ms").await?;
    }
    Ok(())
}

async fn of(report: &mut Report, system: &str, url: &str, count: usize, target: &str) -> Result<()> {
    let store = icecore::open(url).await?;
    let tenant = Tenant::new("acme")?;
    let started = Instant::now();
    fill(&Sessions::new(store.clone(), tenant.clone()), count).await?;
    let each = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    report.fact(
        &format!("{system}, {count} sessions made by {TASKS} tasks"),
        &format!("{each:.0} µs each"),
        "",
    );
    store.shut_down().await?;
    drop(store);

    let store = icecore::open(url).await?;
    let sessions = Sessions::new(store.clone(), tenant);
    let (first, _) = timed(&sessions, Of::Tenant, None).await?;
    told(report, &format!("{system}, the first page of a process, {count} sessions"), &[first], "");
    let mut newest = Vec::new();
    for _ in 0..PAGES {
        newest.push(timed(&sessions, Of::Tenant, None).await?.0);
    }
    told(report, &format!("{system}, the newest {LIMIT} of {count} sessions"), &newest, target);
    let (mut next, mut after) = (Vec::new(), None);
    for _ in 0..PAGES {
        let (took, cursor) = timed(&sessions, Of::Tenant, after).await?;
        next.push(took);
        after = cursor;
    }
    told(report, &format!("{system}, the pages behind them"), &next, target);
    // The newest page while others are made, which is behind no snapshot yet.
    let (mut making, mut alone) = (Vec::new(), Vec::new());
    for number in 0..PAGES {
        let started = Instant::now();
        sessions.create(&scope(&sessions, count + number)?, NewSession::default()).await?;
        alone.push(started.elapsed().as_secs_f64());
        making.push(timed(&sessions, Of::Tenant, None).await?.0);
    }
    told(report, &format!("{system}, the newest {LIMIT}, one made before each"), &making, target);
    told(report, &format!("{system}, making one, alone"), &alone, "");
    let mut users = Vec::new();
    for number in 0..PAGES {
        let user = scope(&sessions, number * count / PAGES)?.user().clone();
        users.push(timed(&sessions, Of::User(user), None).await?.0);
    }
    told(report, &format!("{system}, a user's {PER_USER}, never looked at before"), &users, target);
    store.shut_down().await
}

fn told(report: &mut Report, what: &str, seconds: &[f64], target: &str) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let most = sorted[(sorted.len() - 1) * 95 / 100];
    let (median, ..) = spread(seconds.to_vec());
    report.fact(what, &format!("{:.2} ms, 95 % in {:.2} ms", median * 1e3, most * 1e3), target);
}

async fn timed(sessions: &Sessions, of: Of, after: Option<String>) -> Result<(f64, Option<String>)> {
    let started = Instant::now();
    let page = sessions.list(&of, &Query { after, limit: LIMIT, ended: false }).await?;
    let took = started.elapsed().as_secs_f64();
    if page.sessions.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "listing sessions").advise("A page is empty"));
    }
    Ok((took, page.next))
}

fn scope(sessions: &Sessions, number: usize) -> Result<SessionScope> {
    let user = format!("user-{}", number / PER_USER);
    sessions.tenant().user(user)?.session(format!("s-{number:07}"))
}

async fn fill(sessions: &Sessions, count: usize) -> Result<()> {
    let mut running = JoinSet::new();
    for task in 0..TASKS {
        let sessions = sessions.clone();
        running.spawn(async move {
            for number in (task..count).step_by(TASKS) {
                sessions.create(&scope(&sessions, number)?, NewSession::default()).await?;
            }
            Ok(())
        });
    }
    all(&mut running).await
}
