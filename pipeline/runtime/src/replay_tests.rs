//! What may be replayed, on a log in memory.

use rollcall_kit::{MemoryLimits, MemoryLog};
use rollcall_model::{FaultKind, Record};
use serde_json::json;

use super::*;

const CHANGES: (Topic, Partition) = (Topic::MembershipChanges, Partition(1));

fn ok<T>(result: Result<T, Fault>) -> T {
    result.unwrap_or_else(|fault| panic!("{fault}"))
}

fn wanted(from: &str) -> Wanted {
    let from = from.parse().unwrap_or_else(|why| panic!("{why}"));
    // An offset is one of each partition that is chosen.
    let partitions = matches!(from, Whence::Offset(_)).then(|| BTreeSet::from([CHANGES.1]));
    Wanted { from, partitions, topic: None }
}

fn place(offset: u64) -> Place {
    Place { epoch: 0, offset }
}

/// Ten changes in partition 1, one a second, and a sink that has read eight.
async fn log() -> (MemoryLog, Arc<dyn Log>) {
    let limits = MemoryLimits { retention_ms: 5_000, ..MemoryLimits::default() };
    let memory = MemoryLog::with_limits("memory", 2, limits);
    let log: Arc<dyn Log> = Arc::new(memory.clone());
    let mut writer = ok(log.open("roster/1").await).producer;
    for n in 0..10_u64 {
        memory.set_now_ms(1_000 * n);
        let record = Record {
            topic: CHANGES.0,
            partition: CHANGES.1,
            key: b"core/1".to_vec(),
            value: Some(json!({ "at_us": 7_000 + n }).to_string().into_bytes()),
            headers: Vec::new(),
        };
        ok(writer.commit(Commit { records: vec![record], progress: None }).await);
    }
    stand(&log, 8, SinkState::default()).await;
    (memory, log)
}

async fn stand(log: &Arc<dyn Log>, offset: u64, state: SinkState) {
    let reads = Reads::from([(CHANGES, place(offset)), ((CHANGES.0, Partition(0)), place(0))]);
    let progress = Some(Progress { reads, state: ok(sink_task::to_json(&state)) });
    let mut opened = ok(log.open("sink/lake").await);
    ok(opened.producer.commit(Commit { records: Vec::new(), progress }).await);
}

async fn refused(log: &Arc<dyn Log>, wanted: &Wanted, kind: FaultKind, text: &str) {
    let before = ok(log.tasks().await);
    for fault in [plan(log, "lake", wanted).await.err(), begin(log, "lake", wanted).await.err()] {
        let fault = fault.unwrap_or_else(|| panic!("{wanted:?} is not refused"));
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.to_string().contains(text), "{fault}");
    }
    assert_eq!(ok(log.tasks().await), before, "nothing is begun");
}

#[tokio::test]
async fn a_sink_goes_back_to_a_place_and_knows_until_where() {
    for (from, first) in
        [("beginning", 0), ("3", 3), ("1970-01-01T00:00:03Z", 3), ("1970-01-01T00:00:02.5Z", 3)]
    {
        let (_, log) = log().await;
        let stretch = Stretch { topic: CHANGES.0, partition: CHANGES.1, from: place(first), until: place(8) };
        let planned = ok(plan(&log, "lake", &wanted(from)).await);
        assert_eq!(planned, [stretch], "{from}: nothing is said again of partition 0");
        let shown = ok(super::planned(&*log, &planned).await);
        assert_eq!((shown[0].records, shown[0].since_us), (8 - first, Some(7_000 + first as i64)));
        assert!(ok(underway(&*log).await).is_empty(), "a plan begins nothing");

        let replay = ok(begin(&log, "lake", &wanted(from)).await).unwrap_or_else(|| panic!("{from}"));
        assert_eq!((replay.number, &replay.stretches[..]), (1, &[stretch][..]));
        let (kept, reads) = ok(underway(&*log).await).remove("lake").unwrap_or_else(|| panic!("it is kept"));
        assert_eq!((&kept, reads[&CHANGES]), (&replay, place(first)));
        assert!(kept.covers(CHANGES, place(7)) && !kept.covers(CHANGES, place(8)));
        assert!(!kept.covers((CHANGES.0, Partition(0)), place(0)));
        let at = |offset| Reads::from([(CHANGES, place(offset))]);
        assert!(!kept.is_over(&at(7)) && kept.is_over(&at(8)) && kept.is_over(&at(9)));
        let shown = |offset| {
            let part = kept.shown(&at(offset))[0];
            (part.replayed, part.total, part.done)
        };
        let total = 8 - first;
        assert_eq!((shown(first), shown(7)), ((0, total, false), (total - 1, total, false)));
        assert_eq!((shown(8), shown(10)), ((total, total, true), (total, total, true)));
        refused(&log, &wanted("beginning"), FaultKind::Refused, "still under way").await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let (memory, log) = log().await;
    refused(&log, &wanted("11"), FaultKind::Config, "ends at offset 10: 11 is beyond it").await;
    refused(&log, &wanted("9"), FaultKind::Config, "would leave out what it has not taken").await;
    let other = Wanted { topic: Some(Topic::Identities), ..wanted("0") };
    refused(&log, &other, FaultKind::Config, "it reads membership-changes").await;
    // Of partition 0 nothing is there, not even offset 3.
    let all = Wanted { partitions: Some(BTreeSet::from([Partition(0)])), ..wanted("3") };
    refused(&log, &all, FaultKind::Config, "membership-changes/0 ends at offset 0").await;
    assert_eq!(ok(begin(&log, "lake", &wanted("1970-01-01T00:01:00Z")).await), None, "all is older");

    memory.retain_now(9_000);
    for gone in ["3", "1970-01-01T00:00:03Z"] {
        let text = "membership-changes/1 begins at offset 4";
        refused(&log, &wanted(gone), FaultKind::Refused, text).await;
        refused(&log, &wanted(gone), FaultKind::Refused, "rollcall rebuild lake").await;
    }
    let planned = ok(plan(&log, "lake", &wanted("beginning")).await);
    assert_eq!(planned[0].from, place(4), "what is there may be replayed");
    for there in ["4", "1970-01-01T00:00:05Z"] {
        assert!(!ok(plan(&log, "lake", &wanted(there)).await).is_empty());
    }
}

#[tokio::test]
async fn a_sink_that_is_being_filled_is_left_alone() {
    let (_, log) = log().await;
    stand(&log, 8, SinkState { reset: true, ..SinkState::default() }).await;
    refused(&log, &wanted("beginning"), FaultKind::Refused, "still being filled").await;
    let bootstrap = serde_json::from_value(json!({ "bootstrap": { "ends": [], "live": [] } }));
    stand(&log, 8, bootstrap.unwrap_or_else(|e| panic!("{e}"))).await;
    refused(&log, &wanted("beginning"), FaultKind::Refused, "still being filled").await;
    ok(log.forget("sink/lake").await);
    refused(&log, &wanted("beginning"), FaultKind::Refused, "still being filled").await;
}
