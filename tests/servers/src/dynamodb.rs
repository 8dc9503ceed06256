//! A DynamoDB of a test's own: DynamoDB Local, AWS's own imitation of the service, as a process that can be killed.
//!
//! Its tables are the same for every region and every access key; a key is any of letters and digits, and a secret
//! anything. It sends AWS no telemetry here.
//!
//! It can't be told an address: while a test runs, its port is open on every interface of the machine, to whoever may
//! reach that.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{JAVA_QUICK, wait_for_server};
use crate::{cached, dynamo_api, free_port};

/// A running DynamoDB Local. Its port stays over restarts; its data goes with it.
#[derive(Debug)]
pub struct DynamoDb {
    folder: TempDir,
    port: u16,
    is_durable: bool,
    server: Option<Child>,
}

impl DynamoDb {
    /// Starts one that has its tables in memory: what it had is gone when it is killed.
    ///
    /// # Panics
    /// If it is not installed or does not start: says what brings it, or shows the end of its log.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts one that has its tables, and their streams, in files that outlast a crash. Each item that is written waits
    /// for the disk: hundreds a second, where in memory it is thousands.
    ///
    /// # Panics
    /// As [`DynamoDb::start`].
    #[must_use]
    pub fn start_durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(is_durable: bool) -> Self {
        let folder = TempDir::with_prefix("rollcall-dynamodb-").expect("a temporary folder");
        let mut dynamodb = Self { folder, port: free_port(), is_durable, server: None };
        dynamodb.launch();
        dynamodb
    }

    fn launch(&mut self) {
        assert!(self.server.is_none(), "DynamoDB runs already");
        let libs = cached("dynamodb/libs");
        let log_path = self.folder.path().join("server.log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.expect("a file in our own folder");
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", JAVA_QUICK]);
        command.arg(format!("-Djava.library.path={}", libs.display())).arg("-cp").arg(libs.join("*"));
        command.arg("software.amazon.dynamodb.services.local.main.ServerRunner");
        command.args(["-disableTelemetry", "-sharedDb", "-port", &self.port.to_string()]);
        if self.is_durable {
            command.arg("-dbPath").arg(self.folder.path());
        } else {
            command.arg("-inMemory");
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        let server = self.server.insert(command.spawn().expect("java starts"));
        wait_for_server("DynamoDB Local", server, &log_path, || dynamo_api::is_up(self.port));
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("DynamoDB runs").id()
    }

    /// Asks for an operation, of tables or of streams, with a body of JSON; the body of its answer.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn request(&self, operation: &str, body: &str) -> String {
        dynamo_api::demand(self.port, operation, body)
    }

    /// What it says as it refuses an operation.
    ///
    /// # Panics
    /// If it does not refuse.
    #[must_use]
    pub fn refusal(&self, operation: &str, body: &str) -> String {
        dynamo_api::refusal(self.port, operation, body)
    }

    /// Makes a table of identities with the keys, the indexes and the stream (new and old images) of Flagsmith's; the
    /// ARN of its stream.
    ///
    /// # Panics
    /// If it can't, as when there is a table of that name.
    pub fn create_identities_table(&self, name: &str) -> String {
        dynamo_api::create_identities_table(self.port, name)
    }

    /// Kills it, as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Starts it again after [`DynamoDb::kill9`], on the same port, and on the same data if that is in files.
    ///
    /// # Panics
    /// As [`DynamoDb::start`].
    pub fn start_again(&mut self) {
        self.launch();
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        // What it holds goes with it, so nothing is gained by letting it finish.
        self.kill9();
    }
}
