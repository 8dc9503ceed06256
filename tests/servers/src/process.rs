//! Processes that a test started, ended by their own ids.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that a server may take to come up or go down before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The lines of a log that a failed start shows.
const LOG_LINES_MAX: usize = 40;
/// Java's first compiler alone: the second makes a start dearer, and pays only in a long run.
pub(crate) const JAVA_QUICK: &str = "-XX:TieredStopAtLevel=1";

/// Waits until something holds; false if it never did.
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        sleep(POLL);
    }
    true
}

/// Sends a signal by name. A process that is gone already is none of our concern.
pub(crate) fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.arg("-s").arg(name).arg(pid.to_string());
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    kill.status().expect("the command `kill` runs");
}

/// The children that a process has now.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Whether a process is there and not merely waiting to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat =
        std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Asks a child to end and waits; kills it if it doesn't.
pub(crate) fn end(child: &mut Child, name: &str) -> Option<ExitStatus> {
    signal(child.id(), name);
    let mut status = None;
    wait_until(|| {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_none() {
        drop(child.kill());
        drop(child.wait());
    }
    status
}

/// Waits until a server that was started is up; if it ends instead, or never is, the test fails with the end of its log.
pub(crate) fn wait_for_server(
    name: &str,
    server: &mut Child,
    log_path: &Path,
    mut is_up: impl FnMut() -> bool,
) {
    let mut gone = None;
    let up = wait_until(|| {
        gone = server.try_wait().ok().flatten();
        gone.is_some() || is_up()
    });
    if let Some(status) = gone {
        panic!("{name} did not start, {status}:\n{}", log_tail(log_path));
    }
    assert!(up, "{name} did not come up:\n{}", log_tail(log_path));
}

/// The end of what a server logged.
pub(crate) fn log_tail(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
}
