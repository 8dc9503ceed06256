//! The commands, one file per group, and what they share: the options every command takes.

mod apply;
mod backfill;
mod check;
mod judge;
mod lake;
mod log;
mod members;
mod preview;
mod quarantine;
mod rebuild;
mod rebuild_aside;
mod replay;
mod run;
mod setup;
mod status;
mod tasks;
mod topics;
mod verify;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::settings::Settings;

/// Keeps segment membership exact: Postgres → log → ClickHouse tables and counts.
///
/// Exit codes: 0 done, 1 a difference or a failed job, 2 wrong use, 78 configuration.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version)]
pub(crate) struct Cli {
    /// The topology file
    #[arg(
        short,
        long,
        global = true,
        default_value = "topology.yaml",
        env = "ROLLCALL_CONFIG",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Print JSON lines for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Setup(setup::Setup),
    Teardown(setup::Teardown),
    Apply(apply::Apply),
    Status(status::Status),
    Backfill(backfill::Backfill),
    Fill(backfill::Fill),
    Pause(tasks::Pause),
    Resume(tasks::Resume),
    Rebuild(rebuild::Rebuild),
    Replay(replay::Replay),
    Counts(members::Counts),
    Members(members::Members),
    Explain(members::Explain),
    Judge(judge::Judge),
    Preview(preview::Preview),
    Verify(verify::Verify),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    #[command(subcommand)]
    Topic(topics::Topic),
    #[command(subcommand)]
    Log(log::Log),
    #[command(subcommand)]
    Lake(lake::Lake),
}

/// What a command that asks the running instance has at hand.
#[derive(Debug)]
struct Asking {
    client: Client,
    output: Output,
    settings: Settings,
}

impl Cli {
    /// Whether it is the instance itself, which says what it does.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self.command, Command::Run(_))
    }

    /// Does it.
    pub(crate) async fn execute(self) -> Result<Outcome, Failure> {
        let output = Output { json: self.json };
        let settings = || Settings::read(&self.config);
        let asking = || {
            let settings = settings()?;
            Ok::<_, Failure>(Asking { client: Client::new(&settings)?, output, settings })
        };
        match self.command {
            Command::Run(command) => command.execute(&settings()?).await,
            Command::Check(check) if check.wants_schema() => check.schema(output),
            Command::Check(check) => check.check(&settings()?, output),
            Command::Setup(command) => command.execute(&settings()?, output).await,
            Command::Teardown(command) => command.execute(&settings()?, output).await,
            Command::Apply(command) => command.execute(&asking()?).await,
            Command::Status(command) => command.execute(&asking()?).await,
            Command::Backfill(command) => command.execute(&asking()?).await,
            Command::Fill(command) => command.execute(&asking()?).await,
            Command::Pause(command) => command.execute(&asking()?).await,
            Command::Resume(command) => command.execute(&asking()?).await,
            Command::Rebuild(command) => command.execute(&asking()?).await,
            Command::Replay(command) => command.execute(&asking()?).await,
            Command::Counts(command) => command.execute(&asking()?).await,
            Command::Members(command) => command.execute(&asking()?).await,
            Command::Explain(command) => command.execute(&asking()?).await,
            Command::Judge(command) => command.execute(),
            Command::Preview(command) => command.execute(&asking()?).await,
            Command::Verify(command) => command.execute(&asking()?).await,
            Command::Quarantine(command) => command.execute(&asking()?).await,
            Command::Topic(command) => command.execute(&asking()?).await,
            Command::Log(command) => command.execute(&settings()?, output).await,
            Command::Lake(command) => command.execute(&settings()?, output).await,
        }
    }
}
