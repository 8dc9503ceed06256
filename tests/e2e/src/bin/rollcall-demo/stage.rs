//! The servers of the demo: a populated Postgres, a populated DynamoDB, a topology.yaml, and `rollcall run` on it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rollcall_e2e::TABLE;
use rollcall_kit::flagsmith::{Scale, World, create_schema, populate};
use rollcall_test_servers::{ClickHouse, Kafka, PgVersion, Postgres, free_port};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use crate::edge::{self, EdgeServer};
use crate::{Args, Failure, LogKind, Teller};

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
    /// With identities in DynamoDB.
    pub(crate) edge: Option<EdgeServer>,
    /// The first is the one that is asked.
    pub(crate) workers: Vec<Child>,
    /// With the log on Kafka.
    pub(crate) servers: Option<(Kafka, ClickHouse)>,
    pub(crate) folder: TempDir,
    binary: PathBuf,
    http_port: u16,
    clickhouse_url: String,
}

const LAKE: &str = "  lake: { type: parquet, bucket: ./lake, flush_age_ms: 5000 }\n";
/// Workers that share a Kafka.
const WORKERS: usize = 3;

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
            identities: args.shares().0,
            traits_per_identity: 6,
            unsupported: false,
        };
        teller.tell(&format!(
            "writing {} organisations (number {GATED_OFF} gated off), {} environments, {} segments and {} identities to it",
            scale.organisations, scale.environments, scale.segments, scale.identities
        ));
        let client = connect(&url(&postgres)).await?;
        create_schema(&client).await?;
        let world = populate(&client, scale, args.seed).await?;
        let edge = EdgeServer::start(args, &client, &world, teller).await?;

        let folder = TempDir::with_prefix("rollcall-demo-")?;
        let (http_port, clickhouse_port) = (free_port(), free_port());
        let servers = match args.log {
            LogKind::Embedded => None,
            LogKind::Kafka => {
                teller.tell("starting Kafka and a ClickHouse server");
                Some((Kafka::start(), ClickHouse::start(folder.path().join("clickhouse"))))
            }
        };
        let (log, clickhouse, clickhouse_url) = match &servers {
            None => (
                "{ type: embedded, path: ./data, partitions: 4 }".to_owned(),
                format!("url: embedded, listen: \"127.0.0.1:{clickhouse_port}\""),
                format!("http://127.0.0.1:{clickhouse_port}"),
            ),
            Some((kafka, clickhouse)) => (
                format!(
                    "{{ type: kafka, brokers: \"{}\", partitions: 4, replication_factor: 1, min_insync_replicas: 1, \
                     session_timeout_ms: 6000 }}",
                    kafka.brokers()
                ),
                format!("url: \"{}\"", clickhouse.url()),
                clickhouse.url(),
            ),
        };
        let at_edge = edge.as_ref().map_or_else(String::new, EdgeServer::source);
        // A folder is one machine's, so workers that share a Kafka need a bucket.
        let lake = if servers.is_none() { LAKE } else { "" };
        let text = topology(&url(&postgres), &at_edge, (&log, lake), &clickhouse, http_port);
        std::fs::write(folder.path().join("topology.yaml"), text)?;
        let config = folder.path().join("topology.yaml");
        teller.tell(&format!("rollcall setup --config {}", config.display()));
        let mut setup = Command::new(&binary);
        let setup = setup.arg("-c").arg(&config).arg("setup").envs(edge::CREDENTIALS);
        let setup = setup.stdin(Stdio::null()).output().await?;
        if !setup.status.success() {
            return Err(format!("`rollcall setup` failed: {}", String::from_utf8_lossy(&setup.stderr)).into());
        }
        let count = if servers.is_some() { WORKERS } else { 1 };
        let workers = Vec::new();
        let mut stage =
            Self { world, postgres, edge, folder, workers, servers, binary, http_port, clickhouse_url };
        for number in 0..count {
            let worker = stage.spawn(number, teller)?;
            stage.workers.push(worker);
        }
        Ok(stage)
    }

    /// `rollcall run`, as the worker of a number.
    fn spawn(&self, number: usize, teller: &Teller) -> Result<Child, Failure> {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.config()).arg("run");
        let mut shown = format!("rollcall run --config {}", self.config().display());
        if self.servers.is_some() {
            let id = format!("worker-{number}");
            command.args(["--worker-id", &id]);
            shown = format!("{shown} --worker-id {id}");
            if number > 0 {
                command.args(["--listen", "127.0.0.1:0"]);
                shown = format!("{shown} --listen 127.0.0.1:0");
            }
        }
        teller.tell(&shown);
        let path = self.folder.path().join(format!("rollcall-{number}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(command
            .envs(edge::CREDENTIALS)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Out of reach of the terminal's Ctrl-C, which this process turns into a stop in order.
            .process_group(0)
            .spawn()?)
    }

    /// kill -9 of the last worker, where there are several: the others take its tasks over. It is started again.
    pub(crate) async fn kill_one(&mut self, teller: &Teller) -> Result<(), Failure> {
        if self.workers.len() < 2 {
            return Ok(());
        }
        let number = self.workers.len() - 1;
        let before = self.tasks_of(number).await?;
        teller.tell(&format!("kill -9 of worker-{number}, which runs {}", before.join(", ")));
        let Some(mut worker) = self.workers.pop() else { return Ok(()) };
        worker.kill().await?;
        let began = std::time::Instant::now();
        loop {
            sleep(POLL).await;
            let status = self.status().await?;
            let taken =
                |task: &String| tasks(&status).any(|t| t["task"] == **task && t["state"] == "running");
            if before.iter().all(taken) {
                break;
            }
            if began.elapsed() > Duration::from_secs(READY_SECONDS_MAX) {
                return Err(format!("nobody took over after {READY_SECONDS_MAX} s").into());
            }
        }
        teller.tell(&format!(
            "the others run them, {} ms later (its session lasts 6 s)",
            began.elapsed().as_millis()
        ));
        let worker = self.spawn(number, teller)?;
        self.workers.push(worker);
        Ok(())
    }

    async fn tasks_of(&mut self, number: usize) -> Result<Vec<String>, Failure> {
        let id = format!("worker-{number}");
        let status = self.status().await?;
        let own = tasks(&status).filter(|task| task["worker"] == *id);
        Ok(own.filter_map(|task| task["task"].as_str().map(str::to_owned)).collect())
    }

    /// The first worker that has ended by itself.
    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Failure> {
        for worker in &mut self.workers {
            if let Some(status) = worker.try_wait()? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    /// Whether there is one: workers on a Kafka have none.
    pub(crate) fn has_lake(&self) -> bool {
        self.servers.is_none()
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
                if let Some(status) = self.ended()? {
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
        if let Some(status) = self.ended()? {
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
        let child = child
            .arg("-c")
            .arg(self.config())
            .args(command.split(' '))
            .envs(edge::CREDENTIALS)
            .stdin(Stdio::null());
        Ok(child.status().await?.success())
    }

    pub(crate) fn show_what_to_try(&self) {
        let rollcall = self.binary.display();
        let config = self.config();
        let config = config.display();
        println!("\nPostgres     {}", url(&self.postgres));
        if let Some(edge) = &self.edge {
            println!("DynamoDB     {}, table {TABLE}", edge.url());
        }
        println!("ClickHouse   {}", self.clickhouse_url);
        if let Some((kafka, _)) = &self.servers {
            println!("Kafka        {}", kafka.brokers());
        }
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
        if self.has_lake() {
            println!("  {rollcall} -c {config} lake ls");
            println!("  {rollcall} -c {config} rebuild counts --from lake");
        }
        if self.edge.is_some() {
            let [(id, key), (secret, value)] = edge::CREDENTIALS;
            println!(
                "  {id}={key} {secret}={value} {rollcall} -c {config} members --segment 2 --environment 2 --limit 5 --enrich"
            );
        }
        println!("  psql {} -c 'TABLE segment_membership_segmentmembershipcount'", url(&self.postgres));
    }

    /// The end of Rollcall's log, for a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("rollcall-0.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Stops Rollcall in order, then the servers, and removes their folders.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        for worker in &mut self.workers {
            if let (None, Some(pid)) = (worker.try_wait()?, worker.id()) {
                signal(pid, "TERM").await?;
                let stopped =
                    tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), worker.wait()).await;
                if stopped.is_err() {
                    worker.kill().await?;
                    return Err(format!(
                        "`rollcall run` did not stop within {STOP_SECONDS_MAX} s and was killed"
                    )
                    .into());
                }
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

fn topology(
    postgres: &str,
    at_edge: &str,
    (log, lake): (&str, &str),
    clickhouse: &str,
    http_port: u16,
) -> String {
    format!(
        "rollcall: 1\n\
         log: {log}\n\
         sources:\n  \
           core: {{ type: postgres, platform: flagsmith, url: \"{postgres}\" }}\n\
         {at_edge}\
         gates: {{ default: on, organisations: {{ {GATED_OFF}: off }} }}\n\
         sinks:\n  \
           clickhouse: {{ type: clickhouse, {clickhouse}, preset: flagsmith }}\n  \
           counts: {{ type: counts, url: \"{postgres}\", preset: flagsmith }}\n\
         {lake}\
         http: {{ listen: \"127.0.0.1:{http_port}\" }}\n"
    )
}
