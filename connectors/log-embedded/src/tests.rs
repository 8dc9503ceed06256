//! What happens when a write to the disk fails: nobody knows what is there, so the store is opened anew.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rollcall_model::{Commit, Fault, FaultKind, Log, Partition, Producer, Progress, Record, Topic};

use crate::shared::Shared;
use crate::{EmbeddedLog, EmbeddedLogConfig};

/// How a write fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failing {
    Before,
    After,
}

pub(crate) fn fail_before(shared: &Shared) -> Result<Option<Failing>, Fault> {
    let failing = shared.failing.lock().expect("no test panics with it").pop_front();
    match failing {
        Some(Failing::Before) => Err(disk_full()),
        Some(Failing::After) | None => Ok(failing),
    }
}

pub(crate) fn fail_after(failing: Option<Failing>) -> Result<(), Fault> {
    if failing.is_some() { Err(disk_full()) } else { Ok(()) }
}

fn disk_full() -> Fault {
    crate::folder::io_fault("can't write", Path::new("/log"), io::ErrorKind::StorageFull.into())
}

fn commit(n: u64) -> Commit {
    let record = Record {
        topic: Topic::Identities,
        partition: Partition(0),
        key: n.to_string().into_bytes(),
        value: None,
        headers: Vec::new(),
    };
    let progress = Progress { reads: BTreeMap::new(), state: serde_json::json!(n) };
    Commit { records: vec![record], progress: Some(progress) }
}

fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

async fn fails(producer: &mut dyn Producer, n: u64) -> Fault {
    let fault = producer.commit(commit(n)).await.expect_err("this should fail");
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    fault
}

async fn end(log: &EmbeddedLog) -> u64 {
    ok(log.range(Topic::Identities, Partition(0)).await).end.offset
}

#[tokio::test]
async fn after_a_failed_write_the_task_opens_again_and_learns_where_it_stands() {
    for (failing, written) in [(Failing::Before, 0), (Failing::After, 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = ok(EmbeddedLog::open(folder.path(), EmbeddedLogConfig::default()));
        let mut other = ok(log.open("other").await).producer;
        let mut producer = ok(log.open("task").await).producer;
        log.shared.failing.lock().expect("no test panics with it").push_back(failing);
        let fault = fails(&mut *producer, 1).await;
        assert!(fault.what.contains("is full") && fault.what.contains("make room"), "{fault}");
        let fault = fails(&mut *producer, 2).await;
        assert!(fault.what.contains("open again"), "a producer that doesn't know is of no use: {fault}");
        let opened = ok(log.open("task").await);
        assert_eq!(
            opened.progress.map(|progress| progress.state),
            (written == 1).then(|| serde_json::json!(1))
        );
        assert_eq!(end(&log).await, written, "{failing:?}");
        let mut producer = opened.producer;
        ok(producer.commit(commit(2)).await);
        ok(other.commit(commit(3)).await);
        assert_eq!(end(&log).await, written + 2, "who had nothing in the failed write goes on");
    }
}

#[tokio::test]
async fn everybody_in_a_failed_group_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = ok(EmbeddedLog::open(folder.path(), EmbeddedLogConfig::default()));
    let mut producers = Vec::new();
    for n in 0..8 {
        producers.push(ok(log.open(&format!("task/{n}")).await).producer);
    }
    log.shared.failing.lock().expect("no test panics with it").extend([Failing::After; 8]);
    let mut commits = tokio::task::JoinSet::new();
    for mut producer in producers {
        commits.spawn(async move { producer.commit(commit(1)).await.map_err(|fault| fault.kind) });
    }
    let outcomes = commits.join_all().await;
    let told = outcomes.iter().filter(|outcome| **outcome == Err(FaultKind::Retry)).count();
    assert_eq!(told, 8, "each group failed: {outcomes:?}");
    assert_eq!(end(&log).await, 8, "each was written all the same");
}
