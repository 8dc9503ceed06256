//! kill -9 at random moments: nothing acknowledged is lost, nothing half is shown.
//!
//! ```text
//! this test ──starts itself as──▶ writer: four tasks commit, each says on stdout what was acknowledged
//!     │                               ✝ SIGKILL after some milliseconds, 25 times on one folder
//!     └─ opens the log, reads everything, compares
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_log_embedded::{EmbeddedLog, EmbeddedLogConfig};
use rollcall_model::log::{Fetched, PollLimit};
use rollcall_model::{Commit, Fault, FaultKind, Log, Partition, Place, Progress, Record, Topic};

const KILLS: usize = 25;
const TASKS: u64 = 4;
const PARTITIONS: u16 = 3;
/// Keys per task in the compacted topic: few, so that compaction has work.
const KEYS: u64 = 7;
/// Set for the process that is to be killed: where the log is.
const FOLDER: &str = "ROLLCALL_LOG_CRASH_FOLDER";

fn config() -> EmbeddedLogConfig {
    // Upkeep all the time, so that it is killed too.
    EmbeddedLogConfig { partitions: PARTITIONS, upkeep_interval_ms: 5, ..EmbeddedLogConfig::default() }
}

fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

/// Commit `n` of a task: a record in every partition of a time-retained and of a compacted topic.
fn commit(task: u64, n: u64) -> Commit {
    let of = |topic, partition, key: String| Record {
        topic,
        partition: Partition(partition),
        key: key.into_bytes(),
        value: Some(format!("{n}").into_bytes()),
        headers: Vec::new(),
    };
    let records = (0..PARTITIONS).flat_map(|partition| {
        [
            of(Topic::IdentityChanges, partition, task.to_string()),
            of(Topic::Identities, partition, format!("{task}/{}", n % KEYS)),
        ]
    });
    let progress = Progress { reads: BTreeMap::new(), state: serde_json::json!({ "done": n + 1 }) };
    Commit { records: records.collect(), progress: Some(progress) }
}

/// Commits until it is killed, or `commits` times per task; says `task n offset` of partition 0 after each.
async fn write(folder: &Path, commits: u64) {
    let log = ok(EmbeddedLog::open(folder, config()));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let opened = ok(log.open(&format!("task/{task}")).await);
        let done = opened.progress.map_or(0, |progress| progress.state["done"].as_u64().expect("a number"));
        let mut producer = opened.producer;
        tasks.spawn(async move {
            for n in done..done + commits {
                let committed = ok(producer.commit(commit(task, n)).await);
                let place = committed.first[&(Topic::IdentityChanges, Partition(0))];
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {task} {n} {}", place.offset)
                    .and_then(|()| out.flush())
                    .expect("stdout is read");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a writer ended");
    }
}

/// What a killed writer had been told.
type Acknowledged = Vec<(u64, u64, u64)>;

/// Starts this test as a writer and kills it a while after its first words.
fn killed_writer(folder: &Path, after: Duration) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", "a_writer_goes_on_where_it_stopped", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test can start itself");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let ack = |line: String| {
        // The harness' own words may stand before the first.
        let numbers: Vec<u64> =
            line.split_once("ack ")?.1.split(' ').map_while(|number| number.parse().ok()).collect();
        if let [task, n, offset] = numbers[..] { Some((task, n, offset)) } else { None }
    };
    let first = lines.by_ref().find_map(ack).expect("the writer wrote nothing");
    let mut acknowledged = vec![first];
    // When it dies is the test's input, not its judgement.
    std::thread::sleep(after);
    child.kill().expect("it can be killed");
    child.wait().expect("it ended");
    acknowledged.extend(lines.filter_map(ack));
    acknowledged
}

async fn read_all(log: &EmbeddedLog, topic: Topic, partition: u16) -> Vec<Fetched> {
    let from = BTreeMap::from([((topic, Partition(partition)), Place::default())]);
    let mut consumer = ok(log.consumer(from).await);
    let mut all = Vec::new();
    loop {
        let limit = PollLimit { records_max: 1_000, bytes_max: usize::MAX, wait: Duration::ZERO };
        let fetched = ok(consumer.poll(limit).await);
        if fetched.is_empty() {
            return all;
        }
        all.extend(fetched);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every task's commits are there up to its progress, whole, once, in order. Answers the progress.
async fn check_whole(log: &EmbeddedLog) -> HashMap<u64, u64> {
    // So that upkeep has nothing left to do while this counts.
    ok(log.compact_now().await);
    let mut done = HashMap::new();
    for (name, progress) in ok(log.tasks().await) {
        let task: u64 = name.trim_start_matches("task/").parse().expect("a task of this test");
        done.insert(task, progress.state["done"].as_u64().expect("a number"));
    }
    let mut records = 0;
    for partition in 0..PARTITIONS {
        let changes = read_all(log, Topic::IdentityChanges, partition).await;
        let offsets: Vec<u64> = changes.iter().map(|one| one.place.offset).collect();
        assert_eq!(offsets, (0..changes.len() as u64).collect::<Vec<_>>(), "offsets have no gap");
        let identities = read_all(log, Topic::Identities, partition).await;
        records += changes.len() + identities.len();
        let newest: HashMap<String, String> = identities
            .iter()
            .map(|one| (text(&one.record.key), text(one.record.value.as_deref().unwrap_or_default())))
            .collect();
        for (task, done) in &done {
            let own = changes.iter().filter(|one| one.record.key == task.to_string().as_bytes());
            let values: Vec<_> =
                own.map(|one| text(one.record.value.as_deref().unwrap_or_default())).collect();
            let expected: Vec<_> = (0..*done).map(|n| n.to_string()).collect();
            assert_eq!(values, expected, "task {task} in partition {partition}");
            for n in done.saturating_sub(KEYS)..*done {
                let key = format!("{task}/{}", n % KEYS);
                assert_eq!(
                    newest.get(&key),
                    Some(&n.to_string()),
                    "the newest of {key} in partition {partition}"
                );
            }
        }
        assert_eq!(changes.len() as u64, done.values().sum::<u64>(), "nothing is there beyond progress");
    }
    let counted: u64 = ok(log.stats().await).topics.values().map(|topic| topic.records).sum();
    assert_eq!(counted, records as u64, "the log's own count of its records");
    done
}

async fn check_acknowledged(log: &EmbeddedLog, done: &HashMap<u64, u64>, acknowledged: &Acknowledged) {
    let changes = read_all(log, Topic::IdentityChanges, 0).await;
    for (task, n, offset) in acknowledged {
        let record = changes.get(usize::try_from(*offset).expect("a small offset")).map(|one| &one.record);
        let found =
            record.map(|record| (text(&record.key), text(record.value.as_deref().unwrap_or_default())));
        assert_eq!(
            found,
            Some((task.to_string(), n.to_string())),
            "an acknowledged record is not where it was"
        );
    }
    for task in 0..TASKS {
        let told = acknowledged.iter().filter(|ack| ack.0 == task).map(|ack| ack.1 + 1).max().unwrap_or(0);
        let done = done.get(&task).copied().unwrap_or(0);
        assert!(done >= told, "task {task} was told of {told} commits, {done} are there");
    }
}

/// The newest journal of the store, and how much of it is written (the rest was only reserved).
fn newest_journal(folder: &Path) -> (PathBuf, u64) {
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let newest = std::fs::read_dir(folder.join("store"))
        .expect("the store's folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .max_by_key(number)
        .expect("the store has a journal");
    let bytes = std::fs::read(&newest).expect("a readable journal");
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    (newest, written)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copied file");
        }
    }
}

/// The writer itself; killed ones run this too, without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_goes_on_where_it_stopped() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // It ends by itself when nobody kills it.
        return write(Path::new(&folder), 100_000).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for times in 1..=2 {
        write(folder.path(), 10).await;
        let log = ok(EmbeddedLog::open(folder.path(), config()));
        let done = check_whole(&log).await;
        assert_eq!(done.values().copied().collect::<Vec<_>>(), [10 * times; TASKS as usize]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_acknowledged_and_shows_nothing_half() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = StdRng::seed_from_u64(3);
    let mut commits = 0;
    for _ in 0..KILLS {
        let acknowledged = killed_writer(folder.path(), Duration::from_millis(random.random_range(0..120)));
        let log = ok(EmbeddedLog::open(folder.path(), config()));
        let done = check_whole(&log).await;
        check_acknowledged(&log, &done, &acknowledged).await;
        commits += acknowledged.len();
    }
    assert!(commits >= KILLS, "{commits} commits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_journal_costs_whole_commits_or_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = StdRng::seed_from_u64(4);
    killed_writer(folder.path(), Duration::from_millis(50));
    let (journal, written) = newest_journal(folder.path());
    let name = journal.file_name().expect("a file");
    let file = std::fs::OpenOptions::new().write(true).open(&journal).expect("the journal");
    file.set_len(written).expect("a journal without what was only reserved");
    drop(file);
    let whole = tempfile::tempdir().expect("a folder");
    copy(folder.path(), whole.path());
    let all: u64 = check_whole(&ok(EmbeddedLog::open(whole.path(), config()))).await.values().sum();
    let mut shorter = 0;
    for round in 0..8 {
        let torn = tempfile::tempdir().expect("a folder");
        copy(folder.path(), torn.path());
        let cut = random.random_range(1..4_000.min(written));
        let file = std::fs::OpenOptions::new().write(true).open(torn.path().join("store").join(name));
        let file = file.expect("the journal's copy");
        file.set_len(written - cut).expect("a shorter journal");
        if round % 2 == 1 {
            // As when blocks of the file were reserved, but what should stand there never arrived.
            file.set_len(written + 4_096).expect("a longer journal");
        }
        drop(file);
        match EmbeddedLog::open(torn.path(), config()) {
            Ok(log) => {
                let done: u64 = check_whole(&log).await.values().sum();
                shorter += usize::from(done < all);
                let opened = ok(log.open("task/0").await);
                let n =
                    opened.progress.map_or(0, |progress| progress.state["done"].as_u64().expect("a number"));
                let mut producer = opened.producer;
                ok(producer.commit(commit(0, n)).await);
                check_whole(&log).await;
            }
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
                assert!(fault.repair.is_some(), "{fault}");
            }
        }
    }
    assert!(shorter > 0, "no cut reached a commit: the test tests nothing");
}

/// A power cut may bring the end of the last batch to disk before its middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_the_last_batch_costs_that_batch_and_one_before_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = || EmbeddedLogConfig { upkeep_interval_ms: u64::from(u32::MAX), ..config() };
    for n in 0..3 {
        let log = ok(EmbeddedLog::open(folder.path(), config()));
        let mut producer = ok(log.open("task/0").await).producer;
        ok(producer.commit(commit(0, n)).await);
    }
    let (journal, written) = newest_journal(folder.path());
    let bytes = std::fs::read(&journal).expect("a readable journal");
    let progress = |n: u64| {
        let text = format!("{{\"done\":{n}}}");
        bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).expect("a commit's progress")
    };
    for (n, is_last) in [(3, true), (2, false)] {
        let mut holed = bytes.clone();
        holed[progress(n)] = 0;
        std::fs::write(&journal, &holed[..usize::try_from(written).expect("a small journal")])
            .expect("written");
        match EmbeddedLog::open(folder.path(), config()) {
            Ok(log) => {
                assert!(is_last, "a hole before the last batch must not be taken for its end");
                assert_eq!(check_whole(&log).await, HashMap::from([(0, 2)]));
            }
            Err(fault) => {
                assert!(!is_last, "{fault}");
                assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
                let after = std::fs::read(&journal).expect("a readable journal");
                assert_eq!(
                    after[progress(n)..progress(3)],
                    holed[progress(n)..progress(3)],
                    "it was left as it was"
                );
            }
        }
    }
}
