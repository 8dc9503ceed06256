//! A Postgres of a test's own.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::process::{children, end, is_alive, signal, wait_until};
use crate::{cached, free_port};

/// Which Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgVersion {
    /// 15, from Debian's package.
    V15,
    /// 18, from the Python wheel.
    V18,
}

/// The superuser's password where passwords are asked for.
const SUPERUSER_PASSWORD: &str = "super-secret-of-a-test";

/// The user that runs Postgres when we are root: Postgres refuses root.
#[derive(Debug, Clone, Copy)]
struct RunAs {
    uid: u32,
    gid: u32,
}

/// A running Postgres: logical replication on, fsync off, its data in a temporary folder that goes with it.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    folder: TempDir,
    run_as: Option<RunAs>,
    settings: Vec<(String, String)>,
    server: Option<Child>,
}

impl Postgres {
    /// Starts one that trusts everybody on loopback. `settings` come after ours (`wal_level=logical`, 20 slots and
    /// senders, `fsync=off`) and win over them.
    ///
    /// # Panics
    /// If it is not installed or does not start: says what brings it, or shows its log.
    #[must_use]
    pub fn start(version: PgVersion, settings: &[(&str, &str)]) -> Self {
        Self::start_as(version, settings, "trust")
    }

    /// Starts one that asks everybody for a SCRAM password; [`Postgres::url`] has the superuser's.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    #[must_use]
    pub fn start_with_passwords(version: PgVersion, settings: &[(&str, &str)]) -> Self {
        Self::start_as(version, settings, "scram-sha-256")
    }

    fn start_as(version: PgVersion, settings: &[(&str, &str)], auth: &str) -> Self {
        let bin = cached(match version {
            PgVersion::V15 => "postgres/15",
            PgVersion::V18 => "postgres/18",
        });
        let bin = bin.canonicalize().expect("the folder of Postgres' binaries");
        let folder = TempDir::with_prefix("rollcall-postgres-").expect("a temporary folder");
        let run_as = run_as();
        if let Some(RunAs { uid, gid }) = run_as {
            chown(folder.path(), Some(uid), Some(gid)).expect("root may give a folder away");
        }
        let ours = [
            ("wal_level", "logical"),
            ("max_replication_slots", "20"),
            ("max_wal_senders", "20"),
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
            ("fsync", "off"),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
        ];
        let settings =
            ours.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut postgres = Self { bin, port: free_port(), folder, run_as, settings, server: None };
        postgres.init(auth);
        postgres.launch();
        postgres
    }

    fn init(&self, auth: &str) {
        let password = self.folder.path().join("password");
        std::fs::write(&password, SUPERUSER_PASSWORD).expect("a file in our own folder");
        if let Some(RunAs { uid, gid }) = self.run_as {
            chown(&password, Some(uid), Some(gid)).expect("root may give a file away");
        }
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(self.data_path()).args([
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        initdb.arg(format!("--auth={auth}")).arg(format!("--pwfile={}", password.display()));
        let output = initdb.output().expect("initdb runs");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command of this version, run as the user that may.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.stdin(Stdio::null()).current_dir(self.folder.path());
        if let Some(RunAs { uid, gid }) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn launch(&mut self) {
        assert!(self.server.is_none(), "Postgres runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a file in our own folder");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data_path()).arg("-p").arg(self.port.to_string());
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        let mut server = command.spawn().expect("postgres starts");
        let pid_file = self.data_path().join("postmaster.pid");
        let mut gone = false;
        let up = wait_until(|| {
            gone = server.try_wait().ok().flatten().is_some();
            // Its eighth line is the server's own word on whether it takes connections; the first is whose word it is.
            let lines = std::fs::read_to_string(&pid_file).unwrap_or_default();
            let ours = lines.lines().next().is_some_and(|pid| pid.trim() == server.id().to_string());
            gone || (ours && lines.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
        });
        assert!(up && !gone, "Postgres did not start:\n{}", self.log());
        self.server = Some(server);
    }

    /// The superuser's URL, on the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres", SUPERUSER_PASSWORD, "postgres")
    }

    /// A URL of another user or database.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port; it stays over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with this version's binaries (`pg_recvlogical`, `pgbench`, …).
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The data folder.
    #[must_use]
    pub fn data_path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The server's process id.
    ///
    /// # Panics
    /// If it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("Postgres runs").id()
    }

    /// Runs SQL as superuser and gives what psql prints (unaligned, tuples only).
    ///
    /// # Panics
    /// With the server's message if the SQL fails.
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(&self.url(), sql).unwrap_or_else(|error| panic!("psql: {error}\n{sql}"))
    }

    /// Runs SQL on a URL; the server's message if it fails.
    ///
    /// # Errors
    /// What psql wrote to standard error.
    ///
    /// # Panics
    /// If psql can't be run.
    pub fn try_psql(&self, url: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        let Output { status, stdout, stderr } = psql.output().expect("psql runs");
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned());
        }
        Err(String::from_utf8_lossy(&stderr).trim_end().to_owned())
    }

    /// Stops it: no new connections, open ones are cut.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            end(&mut server, "INT");
        }
    }

    /// Starts it again after [`Postgres::stop`] or [`Postgres::kill9`], on the same data and port.
    ///
    /// # Panics
    /// If it does not come up: shows its log.
    pub fn start_again(&mut self) {
        self.launch();
    }

    /// Stops and starts it.
    ///
    /// # Panics
    /// As [`Postgres::start_again`].
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Kills the server and its backends, as a crash does.
    ///
    /// # Panics
    /// If they are still there after a minute.
    pub fn kill9(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let backends = children(server.id());
        drop(server.kill());
        drop(server.wait());
        for backend in &backends {
            signal(*backend, "KILL");
        }
        assert!(
            wait_until(|| !backends.iter().any(|pid| is_alive(*pid))),
            "backends of a killed Postgres live on"
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// None if we may run Postgres ourselves.
fn run_as() -> Option<RunAs> {
    let id = |flag: &str, user: Option<&str>| -> Option<u32> {
        let output = Command::new("id")
            .arg(flag)
            .args(user)
            .stdin(Stdio::null())
            .output()
            .expect("the command `id` runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    if id("-u", None) != Some(0) {
        return None;
    }
    let user = "the user `postgres`, as whom root runs Postgres; it comes with: make servers";
    Some(RunAs { uid: id("-u", Some("postgres")).expect(user), gid: id("-g", Some("postgres")).expect(user) })
}
