//! `rollcall run` as a process of its own, and the commands asked of it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rollcall_test_servers::free_port;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

/// What goes wrong, for a person to read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const POLL: Duration = Duration::from_millis(100);
/// How long anything that should happen may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker with its folder and topology.
#[derive(Debug)]
pub struct Worker {
    folder: TempDir,
    http_port: u16,
    binary: PathBuf,
    /// Variables that its topology takes values from.
    variables: Vec<(String, String)>,
    /// Its name among several.
    id: Option<String>,
    child: Option<Child>,
}

impl Worker {
    /// Writes topology.yaml, with `HTTP` in it replaced by a free loopback address; starts nothing yet.
    ///
    /// # Errors
    /// When the folder can't be made or the binary isn't built.
    pub fn new(topology: &str) -> Result<Self, Failure> {
        let folder = TempDir::with_prefix("rollcall-e2e-")?;
        let http_port = free_port();
        let topology = topology.replace("HTTP", &format!("127.0.0.1:{http_port}"));
        std::fs::write(folder.path().join("topology.yaml"), topology)?;
        Ok(Self { folder, http_port, binary: binary()?, variables: Vec::new(), id: None, child: None })
    }

    /// Gives it a name: one of several of a log.
    #[must_use]
    pub fn named(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Sets an environment variable for it and for the commands asked of it.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// What it was given of a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.variables().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    }

    fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Its folder: the log lies in `data` where the topology says `./data`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its topology.yaml.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("topology.yaml")
    }

    /// `rollcall run` in the background; `crash_at` is a failpoint such as `roster-committed:3`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&mut self, crash_at: Option<&str>) -> Result<(), Failure> {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log.txt"))?;
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.config()).arg("run").envs(self.variables());
        if let Some(id) = &self.id {
            command.args(["--worker-id", id]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        if let Some(crash_at) = crash_at {
            command.env("ROLLCALL_CRASH_AT", crash_at);
        }
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Sends it a signal: STOP and CONT make a worker that others take for dead.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn signal(&self, name: &str) -> Result<(), Failure> {
        let pid = self.pid().ok_or("it does not run")?;
        Command::new("kill").args(["-s", name, &pid.to_string()]).status().await?;
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill9(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus, Failure> {
        let mut child = self.child.take().ok_or("it does not run")?;
        let pid = child.id().ok_or("it has ended")?;
        Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().await?;
        Ok(tokio::time::timeout(PATIENCE, child.wait()).await.map_err(|_| "it did not stop on SIGTERM")??)
    }

    /// Waits until every task runs.
    ///
    /// # Errors
    /// When it ends or is not ready in time; with its log's last lines.
    pub async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let url = format!("http://127.0.0.1:{}/readyz", self.http_port);
        let http = reqwest::Client::new();
        let started = Instant::now();
        loop {
            let answer = http.get(&url).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(format!("`rollcall run` ended with {status}:\n{}", self.log_tail()).into());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("not ready within {PATIENCE:?}:\n{}", self.log_tail()).into());
            }
            sleep(POLL).await;
        }
    }

    /// A command with `--json`: exit code and lines.
    ///
    /// # Errors
    /// When it can't be run or prints something else.
    pub async fn ask(&self, arguments: &[&str]) -> Result<(i32, Vec<Value>), Failure> {
        let output = self.command(arguments, true).await?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(serde_json::from_slice).collect::<Result<Vec<_>, _>>();
        let text = || String::from_utf8_lossy(&output.stdout).into_owned();
        let lines =
            lines.map_err(|e| format!("`rollcall {}` printed {}: {e}", arguments.join(" "), text()))?;
        let code = output.status.code().unwrap_or(-1);
        if code > 1 {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("`rollcall {}` exited with {code}: {said}", arguments.join(" ")).into());
        }
        Ok((code, lines))
    }

    /// A command as a person types it: exit code, standard output, standard error.
    ///
    /// # Errors
    /// When it can't be run.
    pub async fn say(&self, arguments: &[&str]) -> Result<(i32, String, String), Failure> {
        let output = self.command(arguments, false).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    async fn command(&self, arguments: &[&str], json: bool) -> Result<std::process::Output, Failure> {
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(self.config()).envs(self.variables());
        if json {
            command.arg("--json");
        }
        Ok(command.args(arguments).stdin(Stdio::null()).output().await?)
    }

    /// `GET` of the API, as JSON.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.http_port);
        let text = reqwest::get(url).await?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The HTTP status that it answers with at a path.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn http_status(&self, path: &str) -> Result<u16, Failure> {
        Ok(reqwest::get(format!("http://127.0.0.1:{}/{path}", self.http_port)).await?.status().as_u16())
    }

    /// Waits until everything that its sources committed up to `at_us` is counted and no backfill is under way.
    ///
    /// # Errors
    /// When that takes too long; with what it says of itself.
    pub async fn wait_until_as_of(&self, at_us: i64) -> Result<(), Failure> {
        self.wait_until_as_of_within(at_us, PATIENCE).await
    }

    /// The same with a patience of one's own.
    ///
    /// # Errors
    /// When that takes too long; with what it says of itself.
    pub async fn wait_until_as_of_within(&self, at_us: i64, patience: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let status = self.get("status").await?;
            let sources = status["sources"].as_array().cloned().unwrap_or_default();
            let there = !sources.is_empty()
                && sources.iter().all(|source| {
                    source["backfill"].is_null()
                        && source["as_of_us"].as_i64().is_some_and(|as_of| as_of >= at_us)
                });
            let filling = status["fills"].as_array().is_some_and(|fills| !fills.is_empty());
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            // A sink that is filled for the first time answers no checks.
            let filling = filling || tasks.iter().any(|task| task["bootstrapping"] == true);
            if there && !filling {
                return Ok(());
            }
            if started.elapsed() > patience {
                return Err(format!("still not there: {status:#}\n{}", self.log_tail()).into());
            }
            sleep(POLL).await;
        }
    }

    /// The end of its log, for a failure.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log.txt")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

/// `rollcall` is built into the target folder that this test lies in.
fn binary() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let binary =
        own.ancestors().skip(1).take(2).map(|folder| folder.join("rollcall")).find(|path| path.exists());
    binary
        .ok_or_else(|| "the binary `rollcall` is not built: `cargo build -p rollcall`, or `make test`".into())
}
