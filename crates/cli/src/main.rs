//! `icecore`: append, import, read, tail, verify and copy logs from the command line.

mod append;
mod copy;
mod doctor;
mod import;
mod logs;
mod output;
mod read;
mod tail;
mod time;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use icecore::{Error, ErrorKind, Open, Result, Store};

use output::{Format, Output};

/// Logs whose commits are created once and never changed, over any storage system.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 2 invalid request, 3 conflict, 4 not found, 5 unavailable or unknown, 6 refused, 20 damaged data."
)]
struct Cli {
    /// The store: file:PATH, sqlite:PATH or memory:
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
    /// Check every commit's place in its log's chain, and every stored byte
    Verify(verify::Args),
    /// Copy logs to another store, byte for byte; again to copy what is new
    Copy(copy::Args),
    /// Say what became of an entry whose outcome was unknown
    Resolve(append::ResolveArgs),
    /// Say what the store is, what it promises, and what it found
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut output = Output::new(cli.output, cli.quiet);
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
        Err(error) if output.is_closed() => {
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
        Command::Append(args) => write(cli, async |store| append::run(args, store, output).await).await,
        Command::Import(args) => write(cli, async |store| import::run(args, store, output).await).await,
        Command::Resolve(args) => write(cli, async |store| append::resolve(args, store, output).await).await,
        Command::Read(args) => read::run(args, &look(cli).await?, output).await,
        Command::Logs(args) => logs::run(args, &look(cli).await?, output).await,
        Command::Tail(args) => tail::run(args, &look(cli).await?, output).await,
        Command::Verify(args) => verify::run(args, &look(cli).await?, output).await,
        Command::Doctor => doctor::run(&cli.store, &look(cli).await?, output).await,
        Command::Copy(args) => copy::run(args, output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "icecore", &mut script);
            output.stdout().write_all(&script).map_err(|error| output.failed(error))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Opens the store to read only: it may be written by another process meanwhile.
async fn look(cli: &Cli) -> Result<Store> {
    Open::read_only().open(&cli.store).await
}

/// Opens the store to write, and shuts it down whatever happens.
async fn write(cli: &Cli, work: impl AsyncFnOnce(&Store) -> Result<ExitCode>) -> Result<ExitCode> {
    let store = icecore::open(&cli.store).await?;
    let done = work(&store).await;
    let shut = store.shut_down().await;
    done.and_then(|code| shut.map(|()| code))
}
