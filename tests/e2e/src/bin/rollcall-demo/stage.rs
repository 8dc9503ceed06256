//! The servers of the demo: a populated Postgres, a topology.yaml, and `rollcall run` on it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rollcall_kit::flagsmith::{Scale, World, create_schema, populate};
use rollcall_test_servers::{PgVersion, Postgres, free_port};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::{Args, Failure, Teller};

/// The organisation whose gate is off: its identities are kept and not judged.
const GATED_OFF: i32 = 3;
/// How long a stop in order may take.
const STOP_SECONDS_MAX: u64 = 30;
/// How long Rollcall may take until it answers.
const READY_SECONDS_MAX: u64 = 60;
const POLL: Duration = Duration::from_millis(250);
const LOG_LINES_SHOWN: usize = 20;

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) postgres: Postgres,
    pub(crate) folder: TempDir,
    pub(crate) rollcall: Child,
    binary: PathBuf,
    http_port: u16,
    clickhouse_port: u16,
}

impl Stage {
    /// Starts Postgres, fills it, and starts Rollcall on it.
    pub(crate) async fn start(args: &Args, teller: &Teller) -> Result<Self, Failure> {
        let binary = binary()?;
        teller.tell("starting Postgres 15 in a temporary folder");
        let postgres = Postgres::start(PgVersion::V15, &[]);
        let scale = Scale {
            organisations: 3,
            environments: 6,
            segments: 50,
            identities: args.identities,
            traits_per_identity: 6,
            unsupported: false,
        };
        teller.tell(&format!(
            "writing {} organisations (number {GATED_OFF} gated off), {} environments, {} segments, {} identities",
            scale.organisations, scale.environments, scale.segments, scale.identities
        ));
        let client = connect(&url(&postgres)).await?;
        create_schema(&client).await?;
        let world = populate(&client, scale, args.seed).await?;

        let folder = TempDir::with_prefix("rollcall-demo-")?;
        let (http_port, clickhouse_port) = (free_port(), free_port());
        std::fs::write(
            folder.path().join("topology.yaml"),
            topology(&url(&postgres), http_port, clickhouse_port),
        )?;
        let config = folder.path().join("topology.yaml");
        teller.tell(&format!("rollcall setup --config {}", config.display()));
        let setup =
            Command::new(&binary).arg("-c").arg(&config).arg("setup").stdin(Stdio::null()).output().await?;
        if !setup.status.success() {
            return Err(format!("`rollcall setup` failed: {}", String::from_utf8_lossy(&setup.stderr)).into());
        }
        teller.tell(&format!("rollcall run --config {}", config.display()));
        let log = std::fs::File::create(folder.path().join("rollcall.log"))?;
        let rollcall = Command::new(&binary)
            .arg("-c")
            .arg(&config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Out of reach of the terminal's Ctrl-C, which this process turns into a stop in order.
            .process_group(0)
            .spawn()?;
        Ok(Self { world, postgres, folder, rollcall, binary, http_port, clickhouse_port })
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("topology.yaml")
    }

    /// Another connection to Postgres.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        connect(&url(&self.postgres)).await
    }

    /// Waits until Rollcall answers that it is ready.
    pub(crate) async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let url = format!("http://127.0.0.1:{}/readyz", self.http_port);
        let http = reqwest::Client::new();
        let ready = async {
            loop {
                if let Some(status) = self.rollcall.try_wait()? {
                    return Err(Failure::from(format!("`rollcall run` ended with {status}")));
                }
                if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                sleep(POLL).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(READY_SECONDS_MAX), ready)
            .await
            .map_err(|_| format!("{url} did not answer within {READY_SECONDS_MAX} s"))?
    }

    /// `GET /api/v1/status`. A failed task is a failure here: the demo can't go on without it.
    pub(crate) async fn status(&mut self) -> Result<Value, Failure> {
        if let Some(status) = self.rollcall.try_wait()? {
            return Err(format!("`rollcall run` ended with {status}").into());
        }
        let url = format!("http://127.0.0.1:{}/api/v1/status", self.http_port);
        let answer = reqwest::get(url).await?.error_for_status()?.bytes().await?;
        let status: Value = serde_json::from_slice(&answer)?;
        if let Some(task) = tasks(&status).find(|task| task["state"] == "failed") {
            return Err(format!("{} failed: {} {}", task["task"], task["error"], task["repair"]).into());
        }
        Ok(status)
    }

    /// A command as a person would type it; whether it exited with 0.
    pub(crate) async fn run(&self, command: &str) -> Result<bool, Failure> {
        println!("\n$ rollcall {command} --config {}", self.config().display());
        let mut child = Command::new(&self.binary);
        let child = child.arg("-c").arg(self.config()).arg(command).stdin(Stdio::null());
        Ok(child.status().await?.success())
    }

    pub(crate) fn show_what_to_try(&self) {
        let rollcall = self.binary.display();
        let config = self.config();
        let config = config.display();
        println!("\nPostgres     {}", url(&self.postgres));
        println!("ClickHouse   http://127.0.0.1:{}", self.clickhouse_port);
        println!("Rollcall     http://127.0.0.1:{} (/metrics, /readyz)", self.http_port);
        println!("config       {config}\n\nTo try:");
        for command in [
            "status",
            "counts --environment 1",
            "members --segment 1 --environment 1 --limit 5",
            "explain --segment 1 --environment 1 --identity 1",
            "verify",
        ] {
            println!("  {rollcall} -c {config} {command}");
        }
        println!("  psql {} -c 'TABLE segment_membership_segmentmembershipcount'", url(&self.postgres));
    }

    /// The end of Rollcall's log, for a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("rollcall.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Stops Rollcall in order, then Postgres, and removes their folders.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        if let (None, Some(pid)) = (self.rollcall.try_wait()?, self.rollcall.id()) {
            signal(pid, "TERM").await?;
            let stopped =
                tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), self.rollcall.wait()).await;
            if stopped.is_err() {
                self.rollcall.kill().await?;
                return Err(format!(
                    "`rollcall run` did not stop within {STOP_SECONDS_MAX} s and was killed"
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Sends a signal to one process that this demo started.
pub(crate) async fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    Command::new("kill").args(["-s", name, &pid.to_string()]).status().await?;
    Ok(())
}

/// The tasks of a status.
pub(crate) fn tasks(status: &Value) -> impl Iterator<Item = &Value> {
    status["tasks"].as_array().into_iter().flatten()
}

/// This Postgres trusts the loopback, and a topology.yaml takes no password in clear.
fn url(postgres: &Postgres) -> String {
    format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port())
}

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// `rollcall` is built into the same folder.
fn binary() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let binary = own.parent().unwrap_or(Path::new(".")).join("rollcall");
    if binary.exists() {
        return Ok(binary);
    }
    Err(format!("{} is missing: cargo build -p rollcall, or `make demo`, which does", binary.display())
        .into())
}

fn topology(postgres: &str, http_port: u16, clickhouse_port: u16) -> String {
    format!(
        "rollcall: 1\n\
         log: {{ type: embedded, path: ./data, partitions: 4 }}\n\
         sources:\n  \
           core: {{ type: postgres, platform: flagsmith, url: \"{postgres}\" }}\n\
         gates: {{ default: on, organisations: {{ {GATED_OFF}: off }} }}\n\
         sinks:\n  \
           clickhouse: {{ type: clickhouse, url: embedded, listen: \"127.0.0.1:{clickhouse_port}\", preset: flagsmith }}\n  \
           counts: {{ type: counts, url: \"{postgres}\", preset: flagsmith }}\n\
         http: {{ listen: \"127.0.0.1:{http_port}\" }}\n"
    )
}
