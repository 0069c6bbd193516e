//! `icecore`: append, import, read, tail, verify and copy logs from the command line; keep documents in them, and see them as they were.

mod append;
mod artifact;
mod change;
mod commit;
mod copy;
mod diff;
mod doctor;
mod expire;
mod flow;
mod fork;
mod history;
mod hold;
mod import;
mod input;
mod lines;
mod logs;
mod maintain;
mod output;
mod policy;
mod queue;
mod read;
mod rejects;
mod replay;
mod rollback;
mod session;
mod size;
mod state;
mod tail;
mod time;
mod timeline;
mod trim;
mod verify;
mod watch;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use icecore::{Error, ErrorKind, Meters, Open, Result, Store};

use output::{Format, Output, WhenClosed};

/// glibc before 2.38 does not use again what was aligned and freed, which is each task of Tokio's (decision 0029).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Logs whose commits are created once and never changed, over any storage system.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, max_term_width = 80, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 2 invalid request, 3 conflict, 4 not found, 5 unavailable or unknown, 6 refused, 20 damaged data."
)]
struct Cli {
    /// The store: file:PATH, sqlite:PATH or memory:, and in a build with their features postgres://…, mysql://…, s3://…, gs://…, az://…, redis://…, mongodb://… or dynamodb://…
    #[arg(
        long,
        env = "ICECORE_STORE",
        default_value = "file:./icecore-data",
        global = true,
        value_name = "URL",
        hide_env_values = true
    )]
    store: String,
    /// A table for people, or one JSON object a line
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Format,
    /// No progress, no summaries on standard error
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Append one event to a log
    Append(append::Args),
    /// Append the events of an NDJSON file; importing it twice changes nothing
    Import(import::Args),
    /// Read a log's events
    Read(read::Args),
    /// List logs
    Logs(logs::Args),
    /// Follow a log
    Tail(tail::Args),
    /// Make, list, show, touch, end and purge sessions of a tenant's users, and give tokens for them
    Session(session::Args),
    /// Show what happened in a trace or a session of Penguiflow, in order of time
    Timeline(timeline::Args),
    /// Show a log's documents, or one of them, now or as they were
    State(state::Args),
    /// Set a document, whatever it was
    Put(change::PutArgs),
    /// Change members of a document by a JSON merge patch
    Patch(change::PatchArgs),
    /// Add to a number, or put items into a list, in a document: many at once lose nothing
    Merge(change::MergeArgs),
    /// Delete a document
    Delete(change::DeleteArgs),
    /// Commit changes of several logs from lines of JSON: all of them, or none
    Commit(commit::Args),
    /// Say when a document, or a whole log, is gone by itself
    Expire(expire::Args),
    /// Show what differs between the documents at two moments
    Diff(diff::Args),
    /// Show who changed a document, when, in which commit
    History(history::Args),
    /// Follow a document: as it is, and after each commit that changes it
    Watch(watch::Args),
    /// Make the documents what they were, by a new commit
    Rollback(rollback::Args),
    /// Begin a new log with the documents as they are, or were
    Fork(fork::Args),
    /// Show, store and read artifacts: content of a session
    Artifact(artifact::Args),
    /// Show what a flow of durable nodes has done
    Flow(flow::Args),
    /// Put, lease, acknowledge and replay messages of a durable queue
    Queue(queue::Args),
    /// Say how many bytes tenants, kinds or logs take: what grows
    Size(size::Args),
    /// Make a log shorter; its documents stay as they are
    Trim(trim::Args),
    /// Delete a whole log, for good
    DeleteLog(trim::DeleteArgs),
    /// Keep history from being trimmed or deleted
    Hold(hold::Args),
    /// Say what is kept of logs without anybody asking
    Policy(policy::Args),
    /// Apply the policies, and finish what others left
    Maintain(maintain::Args),
    /// Check every commit's place in its log's chain, and every stored byte
    Verify(verify::Args),
    /// Fold a log's documents from its commits alone, and compare with its snapshots
    Replay(replay::Args),
    /// Copy logs to another store, byte for byte; again to copy what is new
    Copy(copy::Args),
    /// Say what became of an entry whose outcome was unknown
    Resolve(append::ResolveArgs),
    /// Say what the store is, what it promises, and what it found
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// What only shows ends well when nobody looks any more; what does or decides something ends by its own outcome.
    fn when_closed(&self) -> WhenClosed {
        match self {
            Self::Read(_)
            | Self::Logs(_)
            | Self::Size(_)
            | Self::Tail(_)
            | Self::Timeline(_)
            | Self::Flow(_)
            | Self::State(_)
            | Self::Diff(_)
            | Self::History(_)
            | Self::Watch(_)
            | Self::Completions { .. } => WhenClosed::End,
            Self::Rollback(rollback::Args { dry_run: true, .. })
            | Self::Trim(trim::Args { dry_run: true, .. })
            | Self::DeleteLog(trim::DeleteArgs { dry_run: true, .. })
            | Self::Maintain(maintain::Args { dry_run: true, .. }) => WhenClosed::End,
            Self::Session(args) => args.when_closed(),
            Self::Queue(args) => args.when_closed(),
            Self::Hold(args) if matches!(args.command, hold::Command::List) => WhenClosed::End,
            Self::Policy(args) if matches!(args.command, policy::Command::List) => WhenClosed::End,
            Self::Artifact(args)
                if matches!(
                    args.command,
                    artifact::Command::List { .. }
                        | artifact::Command::Show(_)
                        | artifact::Command::Get { to: None, .. }
                ) =>
            {
                WhenClosed::End
            }
            Self::Artifact(_)
            | Self::Append(_)
            | Self::Put(_)
            | Self::Patch(_)
            | Self::Merge(_)
            | Self::Delete(_)
            | Self::Commit(_)
            | Self::Expire(_)
            | Self::Rollback(_)
            | Self::Fork(_)
            | Self::Trim(_)
            | Self::DeleteLog(_)
            | Self::Hold(_)
            | Self::Policy(_)
            | Self::Maintain(_)
            | Self::Import(_)
            | Self::Verify(_)
            | Self::Replay(_)
            | Self::Copy(_)
            | Self::Resolve(_)
            | Self::Doctor(_) => WhenClosed::GoOn,
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let mut output = Output::new(cli.output, cli.quiet);
    output.when_closed = cli.command.when_closed();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&Error::new(ErrorKind::Unavailable, "starting").because(error));
            return ExitCode::from(5);
        }
    };
    let result = runtime.block_on(run(&cli, &mut output)).and_then(|code| output.flush().map(|()| code));
    // A thread that still reads standard input must not keep us.
    runtime.shut_down_now();
    match result {
        Ok(code) => code,
        Err(error) if output.is_closed() && output.when_closed == WhenClosed::End => {
            // Whoever read us has seen enough, as in `icecore read … | head`.
            drop(error);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Shows help, or what is wrong with the command line: as JSON if that was asked for, as far as it can be told.
fn misused(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind as Kind;

    let is_help = !error.use_stderr() || error.kind() == Kind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !asks_for_json() {
        // If nobody can be told, there is nobody to tell.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.to_string();
    let sentence = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = Error::new(ErrorKind::Invalid, "reading the command line").advise(sentence);
    Output::new(Format::Json, false).error(&error);
    ExitCode::from(error.kind().exit_code())
}

fn asks_for_json() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_one = |argument: &OsStr| ["--output=json", "-ojson", "-o=json"].iter().any(|one| argument == *one);
    arguments.iter().any(|argument| is_one(argument))
        || arguments.windows(2).any(|two| (two[0] == "-o" || two[0] == "--output") && two[1] == "json")
}

trait ShutDownNow {
    fn shut_down_now(self);
}

impl ShutDownNow for tokio::runtime::Runtime {
    fn shut_down_now(self) {
        self.shutdown_timeout(std::time::Duration::from_millis(100));
    }
}

async fn run(cli: &Cli, output: &mut Output) -> Result<ExitCode> {
    match &cli.command {
        Command::Append(args) => {
            let entry = args.entry()?;
            write(cli, async |store| append::run(args, entry, store, output).await).await
        }
        Command::Import(args) => {
            let files = args.open()?;
            write(cli, async |store| import::run(args, files, store, output).await).await
        }
        Command::Resolve(args) => write(cli, async |store| append::resolve(args, store, output).await).await,
        Command::Read(args) => read::run(args, &look(cli).await?, output).await,
        Command::Logs(args) => logs::run(args, &look(cli).await?, output).await,
        Command::Tail(args) => tail::run(args, &look(cli).await?, output).await,
        Command::Watch(args) => watch::run(args, &look(cli).await?, output).await,
        Command::Timeline(args) => {
            let of = args.of()?;
            timeline::run(args, &of, &look(cli).await?, output).await
        }
        Command::Session(args) => session::run(args, cli, output).await,
        Command::State(args) => state::run(args, &look(cli).await?, output).await,
        Command::Put(args) => {
            let changes = args.changes()?;
            write(cli, async |store| change::run(&args.log, changes, store, output).await).await
        }
        Command::Patch(args) => {
            let changes = args.changes()?;
            write(cli, async |store| change::run(&args.log, changes, store, output).await).await
        }
        Command::Merge(args) => {
            let changes = args.changes()?;
            write(cli, async |store| change::merge(args, changes, store, output).await).await
        }
        Command::Delete(args) => {
            let changes = args.changes()?;
            write_existing(cli, async |store| change::delete(args, changes, store, output).await).await
        }
        Command::Commit(args) => {
            let changes = args.changes()?;
            write(cli, async |store| commit::run(changes, store, output).await).await
        }
        Command::Expire(args) => {
            let changes = args.changes()?;
            write_existing(cli, async |store| expire::run(args, changes, store, output).await).await
        }
        Command::Diff(args) => diff::run(args, &look(cli).await?, output).await,
        Command::History(args) => history::run(args, &look(cli).await?, output).await,
        Command::Rollback(args) if args.dry_run => rollback::dry_run(args, &look(cli).await?, output).await,
        Command::Rollback(args) => {
            write_existing(cli, async |store| rollback::run(args, store, output).await).await
        }
        Command::Fork(args) => write_existing(cli, async |store| fork::run(args, store, output).await).await,
        Command::Trim(args) if args.dry_run => trim::run(args, &look(cli).await?, output).await,
        Command::Trim(args) => write_existing(cli, async |store| trim::run(args, store, output).await).await,
        Command::DeleteLog(args) if args.dry_run => trim::dry_delete(args, &look(cli).await?, output).await,
        Command::DeleteLog(args) => {
            write_existing(cli, async |store| trim::delete(args, store, output).await).await
        }
        Command::Hold(args) => match &args.command {
            hold::Command::Set(args) => write(cli, async |store| hold::set(args, store, output).await).await,
            hold::Command::List => hold::list(&look(cli).await?, output).await,
            hold::Command::Release { name } => {
                write_existing(cli, async |store| hold::release(name, store, output).await).await
            }
        },
        Command::Policy(args) => match &args.command {
            policy::Command::Set(args) => {
                write(cli, async |store| policy::set(args, store, output).await).await
            }
            policy::Command::List => policy::list(&look(cli).await?, output).await,
            policy::Command::Remove { prefix } => {
                write_existing(cli, async |store| policy::remove(prefix, store, output).await).await
            }
        },
        Command::Maintain(args) if args.dry_run => maintain::dry_run(&look(cli).await?, output).await,
        Command::Maintain(args) => {
            drop(look(cli).await?);
            let meters = Meters::default();
            let open = Open { metrics: Some(meters.clone()), ..Open::default() };
            write_with(&open, cli, async |store| maintain::run(args, &meters, store, output).await).await
        }
        Command::Artifact(args) => artifact(&args.command, cli, output).await,
        Command::Flow(args) => match &args.command {
            flow::Command::Show(which) => flow::show(which, &look(cli).await?, output).await,
        },
        Command::Queue(args) => queue::run(args, cli, output).await,
        Command::Size(args) => size::run(args, &look(cli).await?, output).await,
        Command::Verify(args) => verify::run(args, &look(cli).await?, output).await,
        Command::Replay(args) => replay::run(args, &look(cli).await?, output).await,
        Command::Doctor(args) => doctor::run(args, &cli.store, output).await,
        Command::Copy(args) => copy::run(args, output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "icecore", &mut script);
            output.bytes(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn artifact(command: &artifact::Command, cli: &Cli, output: &mut Output) -> Result<ExitCode> {
    use artifact::Command as Do;

    match command {
        Do::List { of, session } => artifact::list(of, session.as_deref(), &look(cli).await?, output).await,
        Do::Show(which) => artifact::show(which, &look(cli).await?, output).await,
        Do::Get { which, to } => artifact::get(which, to.as_deref(), &look(cli).await?, output).await,
        Do::Put(args) => {
            let file = args.open()?;
            write(cli, async |store| artifact::put(args, file, store, output).await).await
        }
        Do::Delete(which) => {
            write_existing(cli, async |store| artifact::delete(which, store, output).await).await
        }
        Do::Sweep { tenant } => {
            write_existing(cli, async |store| artifact::sweep(tenant.as_deref(), store, output).await).await
        }
    }
}

/// Opens the store to read only: it may be written by another process meanwhile.
async fn look(cli: &Cli) -> Result<Store> {
    Open::read_only().open(&cli.store).await
}

/// Opens the store to write, and shuts it down whatever happens.
async fn write(cli: &Cli, work: impl AsyncFnOnce(&Store) -> Result<ExitCode>) -> Result<ExitCode> {
    write_with(&Open::default(), cli, work).await
}

async fn write_with(
    open: &Open,
    cli: &Cli,
    work: impl AsyncFnOnce(&Store) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let store = open.open(&cli.store).await?;
    let done = work(&store).await;
    let shut = store.shut_down().await;
    done.and_then(|code| shut.map(|()| code))
}

/// As [`write()`], but makes no store: what changes a log that must be there has nothing to do in a new one.
async fn write_existing(cli: &Cli, work: impl AsyncFnOnce(&Store) -> Result<ExitCode>) -> Result<ExitCode> {
    drop(look(cli).await?);
    write(cli, work).await
}
