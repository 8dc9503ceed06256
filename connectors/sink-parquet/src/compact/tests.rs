//! Compactions against a naive oracle, beside a sink, and after a crash at any point.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rollcall_model::{FaultKind, OutRecord, Topic};
use tempfile::TempDir;

use super::*;
use crate::manifest::Untiled;
use crate::test_kit::{change, count, cut, identity, in_folder, keep, newest, prepared, records, says, take};
use crate::verify::verify;

const HOUR_US: i64 = 3_600_000_000;

/// Small files, small passes, and a time far from now.
fn limits(history_from_us: i64) -> Limits {
    Limits {
        now_us: 1_000_000,
        history_from_us,
        events_from_us: None,
        readers_until_us: 0,
        file_bytes: 4_000,
        fan_in: 3,
    }
}

async fn run(config: &LakeConfig, limits: &Limits) -> (Vec<CompactStep>, Cleaned) {
    let mut steps = Vec::new();
    let compaction = Compaction::open(config).await.unwrap();
    let cleaned = Box::pin(compaction.run(limits, &mut |step| steps.push(step.clone()))).await.unwrap();
    (steps, cleaned)
}

/// Identities as (id, version, text), one commit each, in files of some commits.
async fn lake(config: &LakeConfig, rows: &[(u8, i64, String)], cuts: &[usize]) {
    let mut sink = prepared(config).await;
    let mut first = 1;
    let mut cuts = cuts.iter().copied().cycle();
    let mut rest = rows;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        let last = first + now.len() as u64 - 1;
        let records: Vec<OutRecord> = (first..)
            .zip(now)
            .map(|(seq, (id, version, text))| identity(seq, *version, &format!("id-{id}"), text))
            .collect();
        take(&mut sink, Topic::Identities, 0, &records);
        keep(&mut sink, &[cut(Topic::Identities, 0, first, last)]).await;
        (first, rest) = (last + 1, later);
    }
}

type Rows = BTreeMap<String, BTreeMap<i64, OutRecord>>;

async fn by_key(config: &LakeConfig) -> Rows {
    let mut rows = Rows::new();
    for record in records(config, "identities").await {
        let OutRecord::Identity(identity) = &record else { panic!("no identity") };
        let versions = rows.entry(identity.id.to_string()).or_default();
        assert!(versions.insert(identity.version.0, record.clone()).is_none(), "a row twice: {record:?}");
    }
    rows
}

fn as_of(rows: &Rows, at: i64) -> Vec<&OutRecord> {
    rows.values().filter_map(|versions| versions.range(..=at).next_back().map(|(_, row)| row)).collect()
}

fn histories() -> impl Strategy<Value = Vec<(u8, i64, String)>> {
    // Versions of one identity grow; those of different ones need not.
    let step = (0..6_u8, 1..40_i64, prop_oneof![Just(String::new()), "[a-z]{1,40}"]);
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let mut versions = [0; 6];
        steps
            .into_iter()
            .map(|(id, by, text)| {
                versions[usize::from(id)] += by;
                (id, versions[usize::from(id)], text)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_was_newest_at_any_time_that_is_kept_still_is(
        rows in histories(),
        cuts in prop::collection::vec(1..9_usize, 1..4),
        history_from in 0..300_i64,
        fan_in in 2..5_usize,
        file_bytes in 1..20_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            let config = in_folder(&folder.path().join("lake"));
            lake(&config, &rows, &cuts).await;
            let before = by_key(&config).await;
            let limits = Limits { fan_in, file_bytes, ..limits(history_from) };
            run(&config, &limits).await;
            let after = by_key(&config).await;
            for at in history_from..=before.values().flat_map(|v| v.keys()).max().copied().unwrap_or(0).max(history_from) {
                assert_eq!(as_of(&before, at), as_of(&after, at), "as of {at}, kept since {history_from}");
            }
            for (id, versions) in &after {
                let older = versions.range(..=history_from).count();
                // One file of one commit is not merged.
                assert!(older <= 1 || rows.len() <= cuts[0], "{id} keeps {older} rows from before the history");
            }
            let manifest = newest(&config, "identities").await;
            assert_eq!(manifest.untiled(), Vec::<Untiled>::new());
            let report = verify(&config, &mut |_| {}).await.unwrap();
            assert!(report.is_sound(), "{report:?}");
        });
    }
}

fn history(rows: usize) -> Vec<(u8, i64, String)> {
    (0..rows).map(|n| ((n % 40) as u8, n as i64 + 1, format!("text {}", n * 7_919 % 1_000))).collect()
}

#[tokio::test]
async fn many_files_become_parts_with_keys_of_their_own_beside_a_running_sink() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(2_000), &[90]).await;
    let plan = plan_compaction(&config).await.unwrap();
    assert_eq!((plan.len(), plan[0].files, plan[0].rows, plan[0].files_after), (1, 23, 2_000, None));
    let (steps, _) = run(&config, &Limits { file_bytes: 20_000, ..limits(0) }).await;
    assert_eq!((steps.len(), steps[0].files, steps[0].rows_after), (1, 23, Some(2_000)), "{steps:?}");
    let manifest = newest(&config, "identities").await;
    assert!(manifest.files.len() > 2, "{manifest:?}");
    assert_eq!(manifest.retired.len(), 23);
    // The sink goes on after what it knows; its manifest is older by one.
    let mut sink = prepared(&config).await;
    take(&mut sink, Topic::Identities, 0, &[identity(2_001, 5_000, "late", "x")]);
    sink_goes_on(&mut sink).await;
    let (steps, _) = run(&config, &limits(3_000)).await;
    assert_eq!(steps[0].rows_after, Some(41), "one row of each is left");
    assert!(newest(&config, "identities").await.history_from_us >= 3_000);
    let (steps, _) = run(&config, &limits(3_000)).await;
    assert_eq!(steps, [], "nothing is left to do");
    assert!(verify(&config, &mut |_| {}).await.unwrap().is_sound());
}

async fn sink_goes_on(sink: &mut crate::sink::LakeSink) {
    keep(sink, &[cut(Topic::Identities, 0, 2_001, 2_001)]).await;
}

#[tokio::test]
async fn what_was_replaced_goes_when_the_grace_is_over_and_not_before() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(30), &[10]).await;
    let old = newest(&config, "identities").await.files;
    let there = |name: &str| folder.path().join("lake").join(name).exists();
    let (_, cleaned) = run(&config, &Limits { now_us: 10 * HOUR_US, ..limits(0) }).await;
    assert_eq!(cleaned, Cleaned::default());
    assert!(old.iter().all(|file| there(&file.object)), "a reader may still need them");
    let later = |readers_until_us| Limits { now_us: 20 * HOUR_US, readers_until_us, ..limits(0) };
    // The grace begins when they were listed no more, which is later than the compaction began.
    let (_, cleaned) = run(&config, &later(10 * HOUR_US)).await;
    assert_eq!(cleaned, Cleaned::default());
    let (_, cleaned) = run(&config, &later(11 * HOUR_US)).await;
    assert_eq!(cleaned.objects, 3);
    assert!(!old.iter().any(|file| there(&file.object)));
    let manifest = newest(&config, "identities").await;
    assert_eq!((manifest.retired.len(), manifest.untiled()), (0, vec![]));
    assert_eq!(records(&config, "identities").await.len(), 30);

    // Manifests that were replaced go by the store's clock, never the newest.
    let far = crate::clock::now_us() + 1_000 * HOUR_US;
    let (_, cleaned) = run(&config, &Limits { now_us: far, readers_until_us: far, ..limits(0) }).await;
    assert!(cleaned.manifests >= 6, "{cleaned:?}");
    assert_eq!(newest(&config, "identities").await, manifest);
    assert_eq!(newest(&config, "segment_counts").await.files, []);
}

#[tokio::test]
async fn what_a_killed_compaction_left_is_removed_and_what_a_sink_may_still_list_is_not() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(20), &[10]).await;
    let files = folder.path().join("lake/identities/partition=0");
    let name = |first: u64, last: u64| files.join(format!("log-1-{first:020}-{last:020}-0000-00ff.parquet"));
    // Merged and never listed; uploaded and not yet listed; somebody else's.
    let (merged, waiting, foreign) = (name(1, 20), name(21, 30), files.join("notes.txt"));
    for path in [&merged, &waiting, &foreign] {
        std::fs::write(path, "x").unwrap();
    }
    let now_us = crate::clock::now_us();
    let (_, cleaned) = run(&config, &Limits { now_us, ..limits(0) }).await;
    assert_eq!(cleaned.strays, 0, "another compaction may be about to list it");
    let tomorrow = now_us + 25 * HOUR_US;
    let (_, cleaned) = run(&config, &Limits { now_us: tomorrow, ..limits(0) }).await;
    assert_eq!((cleaned.strays, cleaned.objects, merged.exists()), (1, 0, true));
    let limits = Limits { now_us: tomorrow + HOUR_US, readers_until_us: tomorrow + HOUR_US / 2, ..limits(0) };
    let (_, cleaned) = run(&config, &limits).await;
    assert!(cleaned.objects >= 1, "{cleaned:?}");
    assert_eq!((merged.exists(), waiting.exists(), foreign.exists()), (false, true, true));
}

#[tokio::test]
async fn counts_keep_the_newest_and_events_their_time() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    let mut sink = prepared(&config).await;
    for n in 1..=8_u64 {
        take(&mut sink, Topic::SegmentCounts, 1, &[count(n, 1, "s", n), count(n, 1, "t", 10 * n)]);
        take(&mut sink, Topic::MembershipChanges, 1, &[change(n, n as i64, "a", n as i64 * 100)]);
        keep(&mut sink, &[cut(Topic::SegmentCounts, 1, n, n), cut(Topic::MembershipChanges, 1, n, n)]).await;
    }
    // Large enough for four files of events.
    let bytes = newest(&config, "membership_changes").await.files[0].bytes;
    let limits = Limits { events_from_us: Some(300), file_bytes: 4 * bytes + 100, ..limits(0) };
    let (steps, _) = run(&config, &limits).await;
    assert_eq!(records(&config, "segment_counts").await, [count(8, 1, "s", 8), count(8, 1, "t", 80)]);
    let events: Vec<OutRecord> = (3..=8).map(|n| change(n, n as i64, "a", n as i64 * 100)).collect();
    assert_eq!(records(&config, "membership_changes").await, events);
    let manifest = newest(&config, "membership_changes").await;
    let reach = manifest.covered(Partition(1));
    assert_eq!((reach.first.0, manifest.files.len(), manifest.untiled()), (3, 2, vec![]), "{steps:?}");
    assert!(manifest.history_from_us >= 201);
    assert!(verify(&config, &mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test]
async fn a_damaged_file_is_never_merged() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(20), &[10]).await;
    let before = newest(&config, "identities").await;
    let path = folder.path().join("lake").join(&before.files[1].object);
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, &sound[..100]).unwrap();
    let fault = compact(&config, &mut |_| {}).await.unwrap_err();
    says(&fault, FaultKind::Refused, &before.files[1].object, "rollcall lake verify");
    std::fs::remove_file(&path).unwrap();
    let fault = compact(&config, &mut |_| {}).await.unwrap_err();
    says(&fault, FaultKind::Refused, "is listed but not there", "rollcall lake verify");
    assert_eq!(newest(&config, "identities").await, before);
    std::fs::write(&path, &sound).unwrap();
    compact(&config, &mut |_| {}).await.unwrap();
    assert_eq!(newest(&config, "identities").await.files.len(), 1);
    let left: Vec<_> = std::fs::read_dir(&config.spool).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["cuts"], "nothing stays in the spool");
}

#[tokio::test]
async fn of_two_compactions_at_once_one_lists_its_files() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(400), &[10]).await;
    let before = by_key(&config).await;
    let all = limits(0);
    let (one, two) = (Compaction::open(&config).await.unwrap(), Compaction::open(&config).await.unwrap());
    let (mut first, mut second) = (|_: &CompactStep| {}, |_: &CompactStep| {});
    let other = Limits { file_bytes: 9_000, ..all };
    let ran = tokio::join!(one.run(&all, &mut first), two.run(&other, &mut second));
    assert!(ran.0.is_ok() || ran.1.is_ok(), "{ran:?}");
    for fault in [ran.0.err(), ran.1.err()].into_iter().flatten() {
        assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    }
    assert_eq!(by_key(&config).await, before);
    assert!(verify(&config, &mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test]
async fn a_clock_that_is_off_decides_nothing_about_time() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    for ahead_us in [0, CLOCK_OFF_US_MAX, -CLOCK_OFF_US_MAX] {
        clocks_agree(&config, ahead_us).unwrap();
    }
    for ahead_us in [CLOCK_OFF_US_MAX + 1_000_000, -CLOCK_OFF_US_MAX - 1_000_000] {
        says(
            &clocks_agree(&config, ahead_us).unwrap_err(),
            FaultKind::Refused,
            "301 s apart",
            "set the clock",
        );
    }
}

#[tokio::test]
async fn what_somebody_removed_is_not_listed() {
    let folder = TempDir::new().unwrap();
    let config = in_folder(&folder.path().join("lake"));
    lake(&config, &history(20), &[10]).await;
    let before = newest(&config, "identities").await;
    let compaction = Compaction::open(&config).await.unwrap();
    let range = Range { last_seq: before.files[1].range.last_seq, ..before.files[0].range };
    let gone = ListedFile {
        object: format!("{}x.parquet", before.files[0].object),
        range,
        ..before.files[0].clone()
    };
    let table = crate::test_kit::table("identities");
    let (limits, new) = (limits(0), [gone]);
    let put = compaction.put_in_place(table, &limits, range, (&before.files, &new));
    let fault = Box::pin(put).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");
    assert!(fault.message().contains("was removed before it was listed"), "{fault}");
    assert_eq!(newest(&config, "identities").await, before);
}
