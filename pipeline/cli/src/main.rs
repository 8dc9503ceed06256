//! The binary `rollcall`.
//!
//! ```text
//! run ────────▶ wire (the one match that knows connectors) ──▶ rollcall_runtime::run
//! check ──────▶ topology.yaml alone, no I/O
//! judge ──────▶ standard input to standard output
//! setup, teardown ──▶ the databases themselves
//! log copy ───▶ two logs, while no instance runs
//! the others ─▶ HTTP ──▶ the running instance
//! ```
//!
//! Exit codes: 0 done, 1 a difference or a failed job, 2 wrong use, 78 configuration.

mod api;
mod client;
mod commands;
mod failure;
mod logging;
mod output;
mod settings;
mod wire;
mod wire_dynamodb;
mod wire_kafka;
mod wire_lake;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.is_worker());
    match cli.execute().await {
        Ok(outcome) => outcome.code(),
        Err(failure) => failure.report(),
    }
}
