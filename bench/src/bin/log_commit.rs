//! Group commit of the embedded log: durable commits per second with 1, 8 and 32 tasks side by side.
//!
//! `log_commit [COMMITS] [RECORDS] [FOLDER]` (defaults 500, 10, a temporary folder) has each task make `COMMITS` commits of `RECORDS` records of 300 bytes, and
//! prints one line of JSON per number of tasks.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_model::{Commit, Fault, Log, Partition, Producer, Progress, Record, Topic};

const PARTITIONS: u16 = 8;
const VALUE_BYTES: usize = 300;

fn commit(task: u16, n: u64, records: u64) -> Commit {
    let record = |k| Record {
        topic: if k % 2 == 0 { Topic::Identities } else { Topic::MembershipChanges },
        partition: Partition(task % PARTITIONS),
        key: format!("core/{}", n * records + k).into_bytes(),
        value: Some(vec![b'x'; VALUE_BYTES]),
        headers: Vec::new(),
    };
    let progress = Progress { state: serde_json::json!({ "done": n }), ..Progress::default() };
    Commit { records: (0..records).map(record).collect(), progress: Some(progress) }
}

async fn write(
    mut producer: Box<dyn Producer>,
    task: u16,
    commits: u64,
    records: u64,
) -> Result<Vec<Duration>, Fault> {
    let mut times = Vec::new();
    for n in 0..commits {
        let began = Instant::now();
        producer.commit(commit(task, n, records)).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let commits: u64 = args.next().map_or(Ok(500), |arg| arg.parse())?;
    let records: u64 = args.next().map_or(Ok(10), |arg| arg.parse())?;
    let temporary = tempfile::tempdir()?;
    let folder = args.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    for tasks in [1_u16, 8, 32] {
        let path = folder.join(format!("tasks-{tasks}"));
        let log =
            EmbeddedLog::open(&path, EmbeddedLogConfig { partitions: PARTITIONS, ..Default::default() })?;
        let mut running = tokio::task::JoinSet::new();
        let began = Instant::now();
        for task in 0..tasks {
            let producer = log.open(&format!("roster/{task}")).await?.producer;
            running.spawn(write(producer, task, commits, records));
        }
        let mut times = Vec::new();
        while let Some(done) = running.join_next().await {
            times.extend(done??);
        }
        let seconds = began.elapsed().as_secs_f64();
        times.sort_unstable();
        let at =
            |q: f64| times.get((times.len() as f64 * q) as usize).map_or(0, |time| time.as_micros() as u64);
        println!(
            "{}",
            serde_json::json!({
                "tasks": tasks, "commits_per_task": commits, "records_per_commit": records,
                "value_bytes": VALUE_BYTES,
                "commits_per_s": (times.len() as f64 / seconds).round(),
                "records_per_s": ((times.len() as u64 * records) as f64 / seconds).round(),
                "commit_p50_us": at(0.5), "commit_p99_us": at(0.99),
            })
        );
        drop(log);
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}
