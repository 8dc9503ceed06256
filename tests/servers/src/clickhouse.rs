//! A ClickHouse of a test's own: our `rollcall-clickhouse` as a process that can be killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::end;
use crate::{cached, free_port};

/// The variable that names another build of the binary.
const VARIABLE: &str = "ROLLCALL_CLICKHOUSE_BIN";

/// A running ClickHouse. Its port stays over restarts.
#[derive(Debug)]
pub struct ClickHouse {
    path: PathBuf,
    port: u16,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    server: Option<Child>,
    /// The data folder, where it is ours.
    _folder: Option<TempDir>,
}

impl ClickHouse {
    /// Starts one in a temporary folder that goes with it.
    ///
    /// # Panics
    /// If the engine or the binary is missing or does not start: says what brings it.
    #[must_use]
    pub fn temporary() -> Self {
        let folder = TempDir::with_prefix("rollcall-clickhouse-").expect("a temporary folder");
        let mut clickhouse = Self::start(folder.path());
        clickhouse._folder = Some(folder);
        clickhouse
    }

    /// Starts one on a data folder.
    ///
    /// # Panics
    /// As [`ClickHouse::temporary`].
    #[must_use]
    pub fn start(data_path: impl Into<PathBuf>) -> Self {
        Self::start_with(data_path, &[], &[])
    }

    /// Starts one with further arguments and environment variables of `rollcall-clickhouse`.
    ///
    /// # Panics
    /// As [`ClickHouse::temporary`].
    #[must_use]
    pub fn start_with(data_path: impl Into<PathBuf>, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut clickhouse = Self {
            path: data_path.into(),
            port: free_port(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            envs: envs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            server: None,
            _folder: None,
        };
        clickhouse.launch();
        clickhouse
    }

    /// The command that starts one on a folder and address, for tests of its failures.
    ///
    /// # Panics
    /// If the binary is missing: says what builds it.
    #[must_use]
    pub fn command(data_path: &Path, listen: &str) -> Command {
        let mut command = Command::new(binary());
        command.arg("--path").arg(data_path).arg("--listen").arg(listen);
        command.stdin(Stdio::null()).env("RUST_LOG", "warn");
        command
    }

    fn launch(&mut self) {
        assert!(self.server.is_none(), "ClickHouse runs already");
        // Before the binary says so in its own words: here `make servers` is the way.
        let _engine = cached("chdb/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so");
        let mut command = Self::command(&self.path, &format!("127.0.0.1:{}", self.port));
        command.args(&self.args).envs(self.envs.iter().map(|(name, value)| (name, value)));
        let mut server = command.stdout(Stdio::piped()).spawn().expect("rollcall-clickhouse starts");
        // It prints its address once it takes requests, and ends without one if it can't.
        let mut line = String::new();
        let out = server.stdout.take().expect("a piped standard output");
        let read = BufReader::new(out).read_line(&mut line);
        if read.is_err() || !line.starts_with("http://") {
            drop(server.kill());
            panic!("rollcall-clickhouse did not start: {:?}; its reason is on standard error", server.wait());
        }
        self.server = Some(server);
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("ClickHouse runs").id()
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// If it does not end well.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let status = end(&mut server, "TERM");
            assert!(
                status.is_some_and(|status| status.success()),
                "rollcall-clickhouse ended with {status:?}"
            );
        }
    }

    /// Kills it, as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Starts it again after [`ClickHouse::stop`] or [`ClickHouse::kill9`], on the same data and port.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_again(&mut self) {
        self.launch();
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            end(&mut server, "TERM");
        }
    }
}

/// Our binary: it stands beside the tests' own folder, or one above.
fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return PathBuf::from(named);
    }
    let exe = std::env::current_exe().expect("the path of this test");
    let found = exe
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("rollcall-clickhouse"))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "rollcall-clickhouse is not built beside {}. Build it with: cargo build -p rollcall-clickhouse-embedded",
            exe.display()
        )
    })
}
