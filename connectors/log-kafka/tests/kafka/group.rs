//! Which worker runs which task, as workers come, go, hang and are cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollcall_log_kafka::{KafkaGroup, KafkaLog, KafkaLogConfig};
use rollcall_model::{FaultKind, Workers as _};
use tokio::task::JoinHandle;

use crate::support::{LONG, config, fails, kafka, ok, prefix, proxied, together};

const SESSION: Duration = Duration::from_secs(3);

fn quick(brokers: &str, prefix: &str) -> KafkaLogConfig {
    KafkaLogConfig {
        session_timeout_ms: u32::try_from(SESSION.as_millis()).expect("small"),
        client: BTreeMap::from([("topic.metadata.refresh.interval.ms".to_owned(), "500".to_owned())]),
        ..config(brokers, prefix, 1)
    }
}

/// A worker that stops at once whatever it is told to stop.
struct Worker {
    sets: Arc<Mutex<Vec<BTreeSet<u16>>>>,
    work: JoinHandle<()>,
}

impl Worker {
    fn start(mut group: KafkaGroup) -> Self {
        let sets = Arc::new(Mutex::new(vec![BTreeSet::new()]));
        let told = Arc::clone(&sets);
        let work = tokio::spawn(async move {
            while let Ok(tasks) = group.next().await {
                told.lock().expect("sets").push(tasks);
            }
        });
        Self { sets, work }
    }

    fn tasks(&self) -> BTreeSet<u16> {
        self.sets.lock().expect("sets").last().cloned().unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// Waits until these workers share so many tasks evenly, none having two of one; how long that took.
async fn shared(workers: &[&Worker], tasks: u16) -> Duration {
    let started = Instant::now();
    loop {
        let sets: Vec<_> = workers.iter().map(|worker| worker.tasks()).collect();
        let all: BTreeSet<u16> = sets.iter().flatten().copied().collect();
        let count: usize = sets.iter().map(BTreeSet::len).sum();
        let (least, most) = (sets.iter().map(BTreeSet::len).min(), sets.iter().map(BTreeSet::len).max());
        let is_even = least.zip(most).is_some_and(|(least, most)| least > 0 && most <= least + 1);
        if all == (0..tasks).collect() && count == usize::from(tasks) && is_even {
            return started.elapsed();
        }
        assert!(started.elapsed() < LONG, "{sets:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn workers_share_tasks() {
    together([
        tokio::spawn(tasks_are_shared_and_taken_over()),
        tokio::spawn(a_task_moves_when_it_has_stopped()),
        tokio::spawn(two_workers_of_one_id()),
        tokio::spawn(more_tasks_are_shared_when_they_come()),
        tokio::spawn(who_restarts_keeps_its_tasks()),
        tokio::spawn(a_worker_that_is_cut_off_loses_its_tasks_in_its_own_eyes()),
    ])
    .await;
}

async fn tasks_are_shared_and_taken_over() {
    let kafka = kafka();
    let log = ok(KafkaLog::open(quick(&kafka.brokers(), &prefix())).await);
    let mut workers = Vec::new();
    for n in 0..3 {
        workers.push(Worker::start(ok(log.join(&format!("worker-{n}"), 12).await)));
    }
    shared(&workers.iter().collect::<Vec<_>>(), 12).await;
    let sizes: Vec<_> = workers.iter().map(|worker| worker.tasks().len()).collect();
    assert_eq!(sizes, [4, 4, 4]);
    // One dies: nobody is told.
    drop(workers.remove(0));
    let taken = shared(&workers.iter().collect::<Vec<_>>(), 12).await;
    assert!(taken > SESSION / 3, "its session had not ended: {taken:?}");
    println!("taken over after {taken:?}, a session is {SESSION:?}");
    // One comes: as few tasks move as can be.
    let before: Vec<_> = workers.iter().map(Worker::tasks).collect();
    workers.push(Worker::start(ok(log.join("worker-3", 12).await)));
    shared(&workers.iter().collect::<Vec<_>>(), 12).await;
    for (before, worker) in before.iter().zip(&workers) {
        assert!(worker.tasks().is_subset(before), "{before:?} {:?}", worker.tasks());
    }
}

/// One restarts within its session and gets what it had: nobody else is disturbed.
async fn who_restarts_keeps_its_tasks() {
    let kafka = kafka();
    // Long enough for a restart on the slowest machine.
    let patient = KafkaLogConfig { session_timeout_ms: 60_000, ..quick(&kafka.brokers(), &prefix()) };
    let log = ok(KafkaLog::open(patient).await);
    let mut workers = Vec::new();
    for n in 0..2 {
        workers.push(Worker::start(ok(log.join(&format!("worker-{n}"), 6).await)));
    }
    shared(&workers.iter().collect::<Vec<_>>(), 6).await;
    let (before, others) = (workers[0].tasks(), workers[1].sets.lock().expect("sets").len());
    drop(workers.remove(0));
    let again = Worker::start(ok(log.join("worker-0", 6).await));
    shared(&[&again, &workers[0]], 6).await;
    assert_eq!(again.tasks(), before);
    assert_eq!(workers[0].sets.lock().expect("sets").len(), others);
}

/// A task is given to its next worker only when the last one has said that it stopped.
async fn a_task_moves_when_it_has_stopped() {
    let kafka = kafka();
    let log = ok(KafkaLog::open(quick(&kafka.brokers(), &prefix())).await);
    let mut old = ok(log.join("old", 4).await);
    assert_eq!(ok(old.next().await), (0..4).collect());
    let new = Worker::start(ok(log.join("new", 4).await));
    let left = ok(old.next().await);
    assert_eq!(left.len(), 2);
    // The old one stops its tasks, and takes its time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(new.tasks(), BTreeSet::new(), "they have not stopped");
    let old = Worker::start(old);
    let started = Instant::now();
    while new.tasks().is_empty() {
        assert!(started.elapsed() < LONG, "the tasks do not move");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let moved: BTreeSet<u16> = (0..4).filter(|task| !left.contains(task)).collect();
    assert_eq!(new.tasks(), moved);
    drop(old);
}

async fn two_workers_of_one_id() {
    let kafka = kafka();
    let config = quick(&kafka.brokers(), &prefix());
    let log = ok(KafkaLog::open(config.clone()).await);
    let mut older = ok(log.join("worker-1", 2).await);
    assert_eq!(ok(older.next().await).len(), 2);
    let mut newer = ok(log.join("worker-1", 2).await);
    assert_eq!(ok(newer.next().await).len(), 2);
    let told = tokio::time::timeout(LONG, older.next()).await.expect("it is told");
    let says = &["another worker", "'worker-1'", &*config.prefix];
    fails(told, FaultKind::Refused, says, &["--worker-id"]);
    fails(older.next().await, FaultKind::Refused, says, &["--worker-id"]);
    // What is joined through isn't there.
    let short = KafkaLogConfig { session_timeout_ms: 500, ..config };
    let log = ok(KafkaLog::open(short).await);
    let mut group = ok(log.join("worker-2", 2).await);
    fails(
        group.next().await,
        FaultKind::Config,
        &["log.session_timeout_ms 500"],
        &["group.min.session.timeout.ms"],
    );
}

async fn more_tasks_are_shared_when_they_come() {
    let kafka = kafka();
    let log = ok(KafkaLog::open(quick(&kafka.brokers(), &prefix())).await);
    let one = Worker::start(ok(log.join("worker-1", 3).await));
    shared(&[&one], 3).await;
    let two = Worker::start(ok(log.join("worker-2", 8).await));
    shared(&[&one, &two], 8).await;
    // Fewer are asked for by a worker of an older topology: none is taken away.
    let three = Worker::start(ok(log.join("worker-3", 3).await));
    shared(&[&one, &two, &three], 8).await;
}

/// Who is cut off must know by itself that its tasks are no longer its own.
async fn a_worker_that_is_cut_off_loses_its_tasks_in_its_own_eyes() {
    let broker = proxied();
    let name = prefix();
    let near = ok(KafkaLog::open(quick(&broker.kafka.brokers(), &name)).await);
    let proxy = &broker.proxies[0];
    let far = ok(KafkaLog::open(quick(&proxy.address().to_string(), &name)).await);
    let near = Worker::start(ok(near.join("near", 4).await));
    let far = Worker::start(ok(far.join("far", 4).await));
    shared(&[&near, &far], 4).await;
    proxy.drop_all();
    let cut = Instant::now();
    while !far.tasks().is_empty() {
        assert!(cut.elapsed() < LONG, "it goes on with {:?}", far.tasks());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while near.tasks().len() < 4 {
        assert!(cut.elapsed() < LONG, "the other has {:?}", near.tasks());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.pass();
    shared(&[&near, &far], 4).await;
}
