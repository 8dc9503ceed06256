//! A second opinion on DynamoDB: ministack, which forgets a stream's records and an iterator after a time that a test
//! chooses, so that both losses can be had within seconds.
//!
//! Its streams have one shard each. Its tables are those of a region (and of an account, which is the access key where
//! that is of twelve digits); what this crate makes is in `us-east-1`.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::wait_for_server;
use crate::{cached, dynamo_api, free_port};

const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/start_ministack.py");

/// How long a ministack remembers.
#[derive(Debug, Clone, Copy)]
pub struct MinistackSettings {
    /// How long a stream keeps a record. It is counted from the record's creation, whose time is in whole seconds.
    pub retention_s: f64,
    /// How long after it was handed out an iterator is good.
    pub iterator_life_s: f64,
}

impl Default for MinistackSettings {
    /// As the service has it: 24 hours and 15 minutes.
    fn default() -> Self {
        Self { retention_s: 86_400.0, iterator_life_s: 900.0 }
    }
}

/// A running ministack, bound to loopback. Its data is in memory.
#[derive(Debug)]
pub struct Ministack {
    port: u16,
    server: Child,
    /// Goes after the server.
    folder: TempDir,
}

impl Ministack {
    /// Starts one.
    ///
    /// # Panics
    /// If it is not installed or does not start: says what brings it, or shows the end of its log.
    #[must_use]
    pub fn start(settings: MinistackSettings) -> Self {
        let folder = TempDir::with_prefix("rollcall-ministack-").expect("a temporary folder");
        let log_path = folder.path().join("server.log");
        let log = File::create(&log_path).expect("a file in our own folder");
        let port = free_port();
        let mut command = Command::new(cached("ministack/bin/python"));
        command.arg(LAUNCHER).arg(port.to_string());
        command.arg(settings.retention_s.to_string()).arg(settings.iterator_life_s.to_string());
        // Its many settings are variables: none of whoever runs the tests.
        command.env_clear().env("TMPDIR", folder.path()).env("HOME", folder.path());
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        let mut ministack = Self { folder, port, server: command.spawn().expect("python starts") };
        wait_for_server("ministack", &mut ministack.server, &log_path, || dynamo_api::is_up(port));
        ministack
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its folder, with its log.
    #[must_use]
    pub fn data_path(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// As [`DynamoDb::request`](crate::DynamoDb::request).
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

    /// As [`DynamoDb::create_identities_table`](crate::DynamoDb::create_identities_table).
    ///
    /// # Panics
    /// If it can't, as when there is a table of that name.
    pub fn create_identities_table(&self, name: &str) -> String {
        dynamo_api::create_identities_table(self.port, name)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        // What it holds goes with it, so nothing is gained by letting it finish.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
