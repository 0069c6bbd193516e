//! `queue`: messages that one worker at a time is given.

use std::process::ExitCode;
use std::time::Duration;

use icecore::agents::queues::{DeadLetter, GivenBack, Leased, Message, Purge, Queue};
use icecore::{Error, ErrorKind, Json, Result, Store};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::output::{Output, WhenClosed, raw, shown};
use crate::session::OfTenant;
use crate::{Cli, input, look, time, write, write_existing};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A message is given out until a worker says that it is done, or as often as it may be; then it is a dead letter. The tenant may be named in ICECORE_TENANT; `icecore logs acme/queue` lists the queues.\n\nExamples:\n  icecore queue put --tenant acme jobs '{\"question\":1}' --id q-1 --attempts 3\n  icecore queue lease --tenant acme jobs --for 5m\n  icecore queue ack --tenant acme jobs q-1 --fence 1"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put a message, once by its id
    Put(PutArgs),
    /// Take the first messages that are ready, which nobody else is given for so long
    Lease(LeaseArgs),
    /// Say that a message is done
    Ack(Held),
    /// Give a message back: it is given out again, or is a dead letter if that was done often enough
    Nack(NackArgs),
    /// Keep a message for longer
    Extend {
        #[command(flatten)]
        held: Held,
        /// So long from now on
        #[arg(long = "for", value_name = "LENGTH", value_parser = time::length, default_value = "5m")]
        length: Duration,
    },
    /// Show how many messages are ready, delayed, leased and dead
    Stats(Which),
    /// Show dead letters
    Dead {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Only what came behind the message of this number
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
    /// Make dead letters ready again, as if they had never been given out
    Replay(ReplayArgs),
    /// Delete messages for good
    Purge(PurgeArgs),
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    of: OfTenant,
    /// The queue
    queue: String,
}

#[derive(Debug, clap::Args)]
struct PutArgs {
    #[command(flatten)]
    which: Which,
    /// What it says: JSON, @FILE, or - for standard input
    payload: String,
    /// Its id: what was put under it is not put again; by default one that no other has
    #[arg(long)]
    id: Option<String>,
    /// It is given out so much later
    #[arg(long, value_name = "LENGTH", value_parser = time::length, default_value = "0s", hide_default_value = true)]
    delay: Duration,
    /// How often it is given out before it is a dead letter; by default for ever
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
}

#[derive(Debug, clap::Args)]
struct LeaseArgs {
    #[command(flatten)]
    which: Which,
    /// At most so many messages, up to 1,000
    #[arg(long, value_name = "N", default_value_t = 1)]
    limit: usize,
    /// For how long nobody else is given them
    #[arg(long = "for", value_name = "LENGTH", value_parser = time::length, default_value = "5m")]
    length: Duration,
    /// If none is ready, wait for one, for at most so long
    #[arg(long, value_name = "LENGTH", value_parser = time::length, default_value = "0s", hide_default_value = true)]
    wait: Duration,
}

/// A message that somebody has.
#[derive(Debug, clap::Args)]
struct Held {
    #[command(flatten)]
    which: Which,
    /// The message's id
    id: String,
    /// The fence of its lease
    #[arg(long, value_name = "N")]
    fence: u64,
}

#[derive(Debug, clap::Args)]
struct NackArgs {
    #[command(flatten)]
    held: Held,
    /// It is given out again after so long
    #[arg(long, value_name = "LENGTH", value_parser = time::length, default_value = "0s", hide_default_value = true)]
    delay: Duration,
    /// Why
    #[arg(long, default_value = "given back", hide_default_value = true)]
    because: String,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("letters").args(["ids", "all"]).required(true))]
struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Their ids
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All dead letters
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").args(["dead", "waiting", "all"]).required(true))]
struct PurgeArgs {
    #[command(flatten)]
    which: Which,
    /// Dead letters
    #[arg(long)]
    dead: bool,
    /// What waits to be given out: ready or delayed
    #[arg(long)]
    waiting: bool,
    /// All messages, also those that workers have
    #[arg(long)]
    all: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub fn when_closed(&self) -> WhenClosed {
        match &self.command {
            Command::Stats(_) | Command::Dead { .. } | Command::Purge(PurgeArgs { dry_run: true, .. }) => {
                WhenClosed::End
            }
            _ => WhenClosed::GoOn,
        }
    }
}

impl Which {
    fn open(&self, store: &Store) -> Result<Queue> {
        Queue::new(store, &self.of.tenant()?, &self.queue)
    }
}

pub async fn run(args: &Args, cli: &Cli, output: &mut Output) -> Result<ExitCode> {
    match &args.command {
        Command::Put(args) => {
            let payload = input::json("putting a message", &args.payload)?;
            write(cli, async |store| put(args, payload, store, output).await).await?;
        }
        Command::Lease(args) => {
            write_existing(cli, async |store| lease(args, store, output).await).await?;
        }
        Command::Ack(held) => {
            write_existing(cli, async |store| ack(held, store, output).await).await?;
        }
        Command::Nack(args) => {
            write_existing(cli, async |store| nack(args, store, output).await).await?;
        }
        Command::Extend { held, length } => {
            write_existing(cli, async |store| extend(held, *length, store, output).await).await?;
        }
        Command::Stats(which) => stats(which, &look(cli).await?, output).await?,
        Command::Dead { which, limit, after } => {
            dead(which, *after, *limit, &look(cli).await?, output).await?;
        }
        Command::Replay(args) => {
            write_existing(cli, async |store| replay(args, store, output).await).await?;
        }
        Command::Purge(args) if args.dry_run => {
            purge(args, &look(cli).await?, output).await?;
        }
        Command::Purge(args) => {
            write_existing(cli, async |store| purge(args, store, output).await).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn put(args: &PutArgs, payload: Json, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let id = args.id.clone().unwrap_or_else(|| {
        let random: [u8; 16] = store.random();
        format!("{:032x}", u128::from_be_bytes(random))
    });
    let message =
        Message { delay: args.delay, attempts_max: args.attempts, ..Message::new(id.clone(), payload) };
    let put = args.which.open(store)?.put(&[message]).await?;
    for one in put {
        if output.is_json() {
            output.line(&json!({ "id": id, "number": one.number, "repeated": one.repeated }).to_string())?;
        } else {
            let was = if one.repeated { " was there" } else { "" };
            output.line(&format!("{}: number {}{was}", shown(&id), one.number))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn lease(args: &LeaseArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let queue = args.which.open(store)?;
    let leased = queue.lease_or_wait(args.limit, args.length, args.wait).await?;
    if output.is_json() {
        for one in &leased {
            let about = json!({ "number": one.number, "fence": one.fence, "attempts": one.attempts, "until": time::show(one.until), "put_at": time::show(one.put_at) });
            message(&one.id, about, &one.payload, output)?;
        }
    } else if leased.is_empty() {
        output.note("No message is ready");
    } else {
        let row = |one: &Leased| {
            vec![
                shown(&one.id).into_owned(),
                one.fence.to_string(),
                one.attempts.to_string(),
                time::show(one.until),
                output.value(&String::from_utf8_lossy(&one.payload)),
            ]
        };
        let rows = leased.iter().map(row).collect();
        output.table(&["id", "fence", "attempts", "until", "payload"], rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn ack(held: &Held, store: &Store, output: &mut Output) -> Result<ExitCode> {
    held.which.open(store)?.ack(&held.id, held.fence).await?;
    told(held, "done", None, output)
}

async fn nack(args: &NackArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let held = &args.held;
    let given = held.which.open(store)?.nack(&held.id, held.fence, args.delay, &args.because).await?;
    let until = if let GivenBack::Delayed(at) = given { Some(time::show(at)) } else { None };
    told(held, given.name(), until, output)
}

async fn extend(held: &Held, length: Duration, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let until = held.which.open(store)?.extend(&held.id, held.fence, length).await?;
    told(held, "leased", Some(time::show(until)), output)
}

/// A message for programs: what it says is as it was written, to the digit.
#[derive(serde::Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(flatten)]
    about: Value,
    payload: Box<RawValue>,
}

fn message(id: &str, about: Value, payload: &[u8], output: &mut Output) -> Result<()> {
    let line = serde_json::to_string(&Shown { id, about, payload: raw(payload)? })
        .map_err(|error| Error::new(ErrorKind::Corrupt, "showing a message").because(error))?;
    output.line(&line)
}

/// Where a message is now.
fn told(held: &Held, is: &str, until: Option<String>, output: &mut Output) -> Result<ExitCode> {
    if output.is_json() {
        output.line(&json!({ "id": held.id, "is": is, "until": until }).to_string())?;
    } else {
        let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
        output.line(&format!("{} is {is}{until}", shown(&held.id)))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn stats(which: &Which, store: &Store, output: &mut Output) -> Result<()> {
    let found = which.open(store)?.statistics().await?;
    let oldest = found.oldest_at.map(time::show);
    if output.is_json() {
        let line = json!({ "ready": found.ready, "delayed": found.delayed, "leased": found.leased, "dead": found.dead, "oldest_at": oldest });
        return output.line(&line.to_string());
    }
    let counts = [found.ready, found.delayed, found.leased, found.dead].map(|count| count.to_string());
    let mut row = Vec::from(counts);
    row.push(oldest.unwrap_or_default());
    output.table(&["ready", "delayed", "leased", "dead", "oldest of"], vec![row])
}

async fn dead(
    which: &Which,
    after: Option<u64>,
    limit: usize,
    store: &Store,
    output: &mut Output,
) -> Result<()> {
    let found = which.open(store)?.dead(after, limit).await?;
    if output.is_json() {
        for one in &found {
            let about = json!({ "number": one.number, "attempts": one.attempts, "reason": one.reason, "put_at": time::show(one.put_at), "died_at": time::show(one.died_at) });
            message(&one.id, about, &one.payload, output)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        output.note("There are no dead letters");
        return Ok(());
    }
    let row = |one: &DeadLetter| {
        vec![
            shown(&one.id).into_owned(),
            one.number.to_string(),
            one.attempts.to_string(),
            time::show(one.died_at),
            output.value(&one.reason),
            output.value(&String::from_utf8_lossy(&one.payload)),
        ]
    };
    let rows = found.iter().map(row).collect();
    output.table(&["id", "number", "attempts", "died", "because", "payload"], rows)
}

async fn replay(args: &ReplayArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let queue = args.which.open(store)?;
    let count = if args.all {
        queue.replay_all().await?
    } else {
        let ids: Vec<_> = args.ids.iter().map(String::as_str).collect();
        queue.replay(&ids).await?
    };
    if output.is_json() {
        output.line(&json!({ "replayed": count }).to_string())?;
    } else {
        output.line(&format!("{count} are ready again"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn purge(args: &PurgeArgs, store: &Store, output: &mut Output) -> Result<ExitCode> {
    let what = match (args.dead, args.waiting) {
        (true, _) => Purge::Dead,
        (_, true) => Purge::Waiting,
        _ => Purge::All,
    };
    let purged = args.which.open(store)?.purge(what, args.dry_run).await?;
    if output.is_json() {
        let line = json!({ "messages": purged.messages, "bytes": purged.bytes, "dry_run": args.dry_run });
        output.line(&line.to_string())?;
    } else {
        let done = if args.dry_run { "would be deleted" } else { "were deleted" };
        let bytes = indicatif::HumanBytes(purged.bytes);
        output.line(&format!("{} messages of {bytes} {done}", purged.messages))?;
    }
    Ok(ExitCode::SUCCESS)
}
