//! An S3 of a test's own: versitygw on a temporary folder, in which a bucket is a folder and an object a file.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::wait_for_server;
use crate::{cached, free_port, http};

const ACCESS_KEY: &str = "rollcall-test";
/// It protects nothing: what it opens goes with the test.
const SECRET_KEY: &str = "of-a-test";
/// Answers anybody, where everything else wants a signature.
const HEALTH_PATH: &str = "/health";

/// A running S3, bound to loopback, of the region `us-east-1`; its buckets are in the path of a request, not in its
/// host. Its port stays over restarts; its data goes with it.
#[derive(Debug)]
pub struct S3 {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl S3 {
    /// Starts one without buckets.
    ///
    /// # Panics
    /// If it is not installed or does not start: says what brings it, or shows the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("rollcall-s3-").expect("a temporary folder");
        let mut s3 = Self { folder, port: free_port(), server: None };
        std::fs::create_dir(s3.folder()).expect("a folder in our own folder");
        s3.launch();
        s3
    }

    fn launch(&mut self) {
        assert!(self.server.is_none(), "S3 runs already");
        let log_path = self.folder.path().join("server.log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.expect("a file in our own folder");
        let mut command = Command::new(cached("bin/versitygw"));
        command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--health", HEALTH_PATH]);
        command.arg("--port").arg(format!("127.0.0.1:{}", self.port)).arg("posix").arg(self.folder());
        // Its many settings are variables, too: none of whoever runs the tests.
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        let server = self.server.insert(command.spawn().expect("versitygw starts"));
        let health = || http::ask(self.port, "GET", HEALTH_PATH, &[], "");
        wait_for_server("versitygw", server, &log_path, || health().is_ok_and(|answer| answer.status == 200));
    }

    /// What clients connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The one key that may do everything.
    #[must_use]
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Its secret.
    #[must_use]
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The folder whose folders are the buckets. A file put there is an object, if one without an `ETag`.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("buckets")
    }

    /// Makes a bucket, and says which folder it is.
    ///
    /// # Panics
    /// If there is one of that name.
    pub fn make_bucket(&self, name: &str) -> PathBuf {
        let bucket = self.folder().join(name);
        std::fs::create_dir(&bucket).unwrap_or_else(|error| panic!("bucket {name}: {error}"));
        bucket
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("S3 runs").id()
    }

    /// Kills it, as a crash does.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Starts it again after [`S3::kill9`], on the same data and port.
    ///
    /// # Panics
    /// As [`S3::start`].
    pub fn start_again(&mut self) {
        self.launch();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // What it holds goes with it, so nothing is gained by letting it finish.
        self.kill9();
    }
}
