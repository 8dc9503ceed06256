//! `make demo`: Rollcall at work on a real Postgres, an emulator of DynamoDB and the embedded ClickHouse, under a load.
//!
//! ```text
//! Postgres (25,000 identities), DynamoDB (25,000 items) ◀── the load ──┐
//!     │                           │                                   │  this process starts all of it, shows counts as
//!     ▼                           ▼                                   │  they move, runs `rollcall verify`, and stops
//! `rollcall run` ─▶ ClickHouse, count rows, a lake ───────────────────┘  all of it
//! ```
//!
//! With the log on local disk there is a lake, too, in a folder. With `--source postgres` or `dynamodb` all identities are in
//! one of them; the catalog is in Postgres always. With
//! `--log kafka` there are a Kafka and three of `rollcall run`, and ClickHouse is a server of its own.
//!
//! `--keep` leaves all of it running and writes their process ids down, `--stop` ends them by these. On a
//! terminal it stays up until Ctrl-C.

mod drive;
mod edge;
mod keep;
mod load;
mod stage;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::stage::Stage;

/// What goes wrong, for a person to read.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Shows Rollcall on a real Postgres, an emulator of DynamoDB and the embedded ClickHouse
#[derive(Debug, Parser)]
#[command(name = "rollcall-demo")]
pub(crate) struct Args {
    /// Leave everything running in the background
    #[arg(long, conflicts_with = "stop")]
    keep: bool,
    /// End what --keep left running
    #[arg(long)]
    stop: bool,
    /// Where everything meets: one worker on local disk, or three on a Kafka, of which one is killed under the load
    #[arg(long, value_enum, default_value_t = LogKind::Embedded)]
    log: LogKind,
    /// Where identities live: in Postgres, at the edge in DynamoDB, or half of them here and half there
    #[arg(long, value_enum, default_value_t = SourceKind::Both)]
    source: SourceKind,
    /// Identities at the start
    #[arg(long, default_value_t = 50_000)]
    identities: usize,
    /// How long the load runs, in seconds
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    /// Seed of the population and the load
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The log of the demo.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum LogKind {
    /// One worker, one folder.
    Embedded,
    /// A Kafka broker, a ClickHouse server and three workers.
    Kafka,
}

/// Where the identities of the demo live.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum SourceKind {
    /// All of them in Postgres.
    Postgres,
    /// All of them in DynamoDB.
    Dynamodb,
    /// Those of one organisation in DynamoDB, the others in Postgres.
    Both,
}

impl Args {
    /// Identities in Postgres and items in DynamoDB, at the start.
    pub(crate) fn shares(&self) -> (usize, usize) {
        match self.source {
            SourceKind::Postgres => (self.identities, 0),
            SourceKind::Dynamodb => (0, self.identities),
            SourceKind::Both => (self.identities - self.identities / 2, self.identities / 2),
        }
    }
}

/// What happens, with the time since the start.
pub(crate) struct Teller(Instant);

impl Teller {
    pub(crate) fn tell(&self, what: &str) {
        println!("[{:>3} s] {what}", self.0.elapsed().as_secs());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that it looked at in the end was right.
async fn demo(args: &Args) -> Result<bool, Failure> {
    if args.stop {
        keep::stop()?;
        return Ok(true);
    }
    keep::refuse_a_second()?;
    let teller = Teller(Instant::now());
    let mut stage = Stage::start(args, &teller).await?;
    let driven = tokio::select! {
        driven = Box::pin(drive::drive(&mut stage, args, &teller)) => driven,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from).and(Err("interrupted".into())),
    };
    match driven {
        Ok(equal) if args.keep => {
            stage.show_what_to_try();
            keep::keep(stage)?;
            println!("\nIt stays up in the background. `make demo-stop` ends it.");
            Ok(equal)
        }
        Ok(equal) => {
            if std::io::stdout().is_terminal() {
                stage.show_what_to_try();
                println!("\nIt stays up until Ctrl-C.");
                tokio::signal::ctrl_c().await?;
            }
            teller.tell("stopping");
            stage.end().await?;
            Ok(equal)
        }
        Err(failure) => {
            let log = stage.log_tail();
            stage.end().await?;
            Err(format!("{failure}\nthe last lines of Rollcall's log:\n{log}").into())
        }
    }
}
