//! What `--keep` leaves behind and `--stop` ends: processes and folders, written down in a file.
//!
//! A process id may be another process' by then, so it stands with the time at which the process started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::stage::Stage;

const POLL: Duration = Duration::from_millis(100);
/// Polls until a process that was asked to end is killed: half a minute.
const POLLS_MAX: usize = 300;

#[derive(Serialize, Deserialize)]
struct Process {
    pid: u32,
    started: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    workers: Vec<Process>,
    /// With the signal that ends each in order.
    servers: Vec<(Process, String)>,
    folders: Vec<PathBuf>,
}

fn file() -> PathBuf {
    std::env::temp_dir().join("rollcall-demo.json")
}

fn read() -> Result<Option<Kept>, Failure> {
    match std::fs::read(file()) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Process {
    fn of(pid: u32) -> Result<Self, Failure> {
        let started = start_time(pid).ok_or_else(|| format!("process {pid} has ended"))?;
        Ok(Self { pid, started })
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Asks it to end and waits; kills it if it doesn't.
    fn end(&self, signal: &str) -> Result<(), Failure> {
        for name in [signal, "KILL"] {
            for poll in 0..POLLS_MAX {
                if !self.is_alive() {
                    return Ok(());
                }
                if poll == 0 {
                    Command::new("kill").args(["-s", name, &self.pid.to_string()]).status()?;
                }
                sleep(POLL);
            }
        }
        Err(format!("process {} does not end", self.pid).into())
    }
}

/// When a process started, in clock ticks since boot; `None` when it has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold anything; the state is the field after it, the start the 20th from there.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}

/// An error when a kept demo still runs.
pub(crate) fn refuse_a_second() -> Result<(), Failure> {
    match read()? {
        Some(kept)
            if kept.workers.iter().any(Process::is_alive)
                || kept.servers.iter().any(|(server, _)| server.is_alive()) =>
        {
            Err("a demo is running already: make demo-stop".into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Lets everything go on without this process.
pub(crate) fn keep(stage: Stage) -> Result<(), Failure> {
    let mut workers = Vec::new();
    for worker in &stage.workers {
        workers.push(Process::of(worker.id().ok_or("`rollcall run` has ended")?)?);
    }
    let mut folders = vec![stage.folder.path().to_owned()];
    folders.extend(stage.postgres.data_path().parent().map(Path::to_owned));
    let mut servers = vec![(Process::of(stage.postgres.pid())?, "INT".to_owned())];
    if let Some(edge) = &stage.edge {
        servers.push((Process::of(edge.dynamodb.pid())?, "TERM".to_owned()));
        folders.push(edge.dynamodb.data_path().to_owned());
    }
    if let Some((kafka, clickhouse)) = &stage.servers {
        servers.push((Process::of(clickhouse.pid())?, "TERM".to_owned()));
        for node in kafka.nodes() {
            servers.push((Process::of(kafka.pid(node))?, "TERM".to_owned()));
            folders.extend(kafka.data_path(node).parent().map(Path::to_owned));
        }
    }
    let kept = Kept { workers, servers, folders };
    std::fs::write(file(), serde_json::to_vec_pretty(&kept)?)?;
    // Dropping them would stop the server and remove the folders: that is now `--stop`'s to do.
    std::mem::forget(stage);
    Ok(())
}

/// Ends what is written down: Rollcall first, so that its slot is left in order.
pub(crate) fn stop() -> Result<(), Failure> {
    let Some(kept) = read()? else {
        println!("no demo is running");
        return Ok(());
    };
    for worker in &kept.workers {
        worker.end("TERM")?;
    }
    for (server, signal) in &kept.servers {
        server.end(signal)?;
    }
    for folder in &kept.folders {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    std::fs::remove_file(file())?;
    println!("the demo is stopped and its folders are removed");
    Ok(())
}
