//! `rollcall-clickhouse`: the embedded ClickHouse as a process of its own, for tests and for a look around.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use rollcall_clickhouse_embedded::{ClickHouseEmbedded, Config, DEFAULT_CONNECTIONS_MAX, Login};
use rollcall_model::Fault;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The ClickHouse engine behind its HTTP interface.
#[derive(Debug, Parser)]
#[command(name = "rollcall-clickhouse", version)]
struct Args {
    /// The data folder; made if it is not there.
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The engine's library.
    #[arg(long, value_name = "FILE", env = "ROLLCALL_LIBCHDB")]
    libchdb: Option<PathBuf>,
    /// Only this user may ask, with the password in ROLLCALL_CLICKHOUSE_PASSWORD.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Queries at once.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONNECTIONS_MAX)]
    connections_max: usize,
}

/// Exit code of a wrong setting, as everywhere in Rollcall.
const EXIT_CONFIG: u8 = 78;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            drop(writeln!(std::io::stderr(), "rollcall-clickhouse: {fault}"));
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

async fn run(args: Args) -> Result<(), Fault> {
    let login = args.user.map(|user| {
        let password = std::env::var("ROLLCALL_CLICKHOUSE_PASSWORD").unwrap_or_default();
        Login { user, password }
    });
    let config = Config {
        data_path: args.path,
        listen: args.listen,
        libchdb: args.libchdb,
        login,
        connections_max: args.connections_max,
    };
    let signals = |kind| signal(kind).map_err(|error| Fault::bug("no signal handler").from_source(error));
    let (mut terminate, mut interrupt) =
        (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let running = ClickHouseEmbedded::start(config).await?;
    // The one line on standard output: whoever started us reads the address from it.
    let mut out = std::io::stdout();
    drop(writeln!(out, "{}", running.url()).and_then(|()| out.flush()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    running.stop().await
}
