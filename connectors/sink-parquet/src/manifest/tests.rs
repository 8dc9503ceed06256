//! Manifests against naive oracles.

use proptest::prelude::*;
use rollcall_model::archive::Cut;
use rollcall_model::{FaultKind, Topic};

use super::*;
use crate::test_kit::says;

fn log() -> LogId {
    LogId("log-1".to_owned())
}

fn range(partition: u16, first: u64, last: u64) -> Range {
    Range { partition: Partition(partition), first_seq: Seq(first), last_seq: Seq(last) }
}

fn file(range: Range, part: u16, parts: u16, hash: &str) -> ListedFile {
    ListedFile {
        object: object_name("identities", &log(), range, (parts > 1).then_some(part), hash),
        range,
        part,
        parts,
        rows: 7,
        bytes: 700,
        sha256: hash.to_owned(),
        min_version: 1,
        max_version: 2,
        min_event_us: None,
        max_event_us: Some(range.last_seq.0 as i64),
    }
}

fn cut(partition: u16, first: u64, last: u64) -> Cut {
    let until = Place { epoch: 0, offset: last * 10 };
    Cut {
        topic: Topic::Identities,
        partition: Partition(partition),
        first: Seq(first),
        last: Seq(last),
        until,
    }
}

fn addition(partition: u16, first: u64, last: u64, full: bool) -> Addition {
    let file = full.then(|| file(range(partition, first, last), 0, 1, "0123456789abcdef0123"));
    Addition { cut: cut(partition, first, last), file }
}

fn begun() -> Manifest {
    Manifest::begin(("identities", 1), &log(), "lake", 1_000)
}

fn objects(manifest: &Manifest, partition: u16) -> Vec<String> {
    manifest.files_of(Partition(partition)).map(|file| file.object.clone()).collect()
}

#[test]
fn names_tell_range_part_and_content() {
    let name = object_name("identities", &log(), range(3, 17, 4_711), Some(2), "0123456789abcdef0123");
    assert_eq!(
        name,
        "identities/partition=3/log-1-00000000000000000017-00000000000000004711-0002-0123456789abcdef.parquet"
    );
    assert_eq!(range_of("identities", &log(), Partition(3), &name), Some(range(3, 17, 4_711)));
    assert_eq!(range_of("identities", &log(), Partition(4), &name), None);
    assert_eq!(range_of("identities", &LogId("log".to_owned()), Partition(3), &name), None);
    assert_eq!(number_of("identities", "identities/manifests/00000000000000000012.json"), Some(12));
    for foreign in
        ["identities/manifests/12.json", "identities/manifests/x.tmp", "manifests/00000000000000000012.json"]
    {
        assert_eq!(number_of("identities", foreign), None, "{foreign}");
    }
}

#[test]
fn a_cut_is_listed_once_and_only_where_it_goes_on() {
    let one = begun().append(&[addition(0, 1, 10, true)], 2_000).unwrap().unwrap();
    assert_eq!(one.covered(Partition(0)).until.offset, 100);
    assert_eq!(one.append(&[addition(0, 1, 10, true)], 3_000).unwrap(), None, "the answer was lost");
    let two = one.append(&[addition(0, 1, 10, true), addition(0, 11, 12, true)], 3_000).unwrap().unwrap();
    assert_eq!(two.covered(Partition(0)).seq, Seq(12));
    assert_eq!(two.files.len(), 2);
    assert_eq!(two.append(&[addition(0, 11, 11, true)], 3_000).unwrap(), None, "an heir went beyond");
    for (first, last) in [(12, 20), (14, 20), (1, 20)] {
        let fault = two.append(&[addition(0, first, last, true)], 4_000).unwrap_err();
        says(&fault, FaultKind::Refused, "another writer", "rollcall rebuild lake");
    }
}

#[test]
fn what_was_replaced_is_readable_until_it_is_doomed() {
    let cuts = [addition(0, 1, 10, true), addition(0, 11, 20, false), addition(0, 21, 30, true)];
    let listed = begun().append(&cuts, 2_000).unwrap().unwrap();
    let old = objects(&listed, 0);
    let new = [file(range(0, 1, 30), 0, 2, "aa"), file(range(0, 1, 30), 1, 2, "bb")];
    let merged = listed.replace(&old, range(0, 1, 30), &new, 5_000).unwrap();
    assert_eq!(objects(&merged, 0), [new[0].object.clone(), new[1].object.clone()]);
    assert_eq!(merged.retired.iter().map(|r| &r.object).collect::<Vec<_>>(), old.iter().collect::<Vec<_>>());
    assert_eq!((merged.untiled(), &merged.empty), (vec![], &vec![]));
    let fault = merged.replace(&old, range(0, 1, 30), &new, 5_000).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Retry, "{fault}");

    assert_eq!(merged.doom(4_999, 6_000), None);
    let doomed = merged.doom(5_000, 6_000).unwrap();
    assert_eq!(doomed.forget(&[], 7_000), None);
    assert_eq!(merged.forget(&old, 7_000), None, "only what was doomed is forgotten");
    assert_eq!(doomed.forget(&old, 7_000).unwrap().retired, []);

    // The same content again, after a rebuild: taken back while it is there, not while somebody removes it.
    let again = merged.anew(Manifest { created_at_us: 8_000, ..begun() });
    assert_eq!((again.files.len(), again.retired.len()), (0, 4));
    let back = again.append(&cuts[..1], 9_000).unwrap().unwrap();
    assert_eq!((objects(&back, 0), back.retired.len()), (vec![old[0].clone()], 3));
    let fault = again.doom(8_000, 9_000).unwrap().append(&cuts[..1], 9_000).unwrap_err();
    says(&fault, FaultKind::Retry, "being removed", "rollcall lake compact");
}

#[test]
fn strays_are_retired_unless_they_are_known() {
    let listed = begun().append(&[addition(0, 1, 10, true)], 2_000).unwrap().unwrap();
    let stray = object_name("identities", &log(), range(0, 1, 9), None, "ff");
    let known = objects(&listed, 0);
    assert_eq!(listed.retire_strays(&known, 3_000), None);
    let next = listed.retire_strays(&[known[0].clone(), stray.clone()], 3_000).unwrap();
    assert_eq!(next.retired, [Retired { object: stray, at_us: 3_000, doomed: false }]);
    assert_eq!(next.files, listed.files);
}

#[test]
fn retention_drops_from_the_beginning_and_says_so() {
    let cuts = [addition(0, 1, 10, true), addition(0, 11, 20, false), addition(0, 21, 30, true)];
    let listed = begun().append(&cuts, 2_000).unwrap().unwrap();
    let mut dropped = listed.drop_until(Partition(0), Seq(20), 3_000).unwrap();
    assert_eq!(
        (dropped.covered(Partition(0)).first, dropped.files.len(), dropped.empty.len()),
        (Seq(21), 1, 0)
    );
    assert_eq!(dropped.history_from_us, 1_000);
    dropped.history_from_us = 5;
    let all = dropped.drop_until(Partition(0), Seq(30), 3_000).unwrap();
    assert_eq!((all.history_from_us, all.files.len(), all.untiled()), (31, 0, vec![]));
    assert_eq!(all.append(&[addition(0, 31, 40, true)], 4_000).unwrap().unwrap().untiled(), []);
}

#[test]
fn manifests_that_can_not_be_understood_are_refused() {
    let name = "s3://b/identities/manifests/1.json";
    let sound = begun().append(&[addition(0, 1, 10, true)], 2_000).unwrap().unwrap();
    let read = |manifest: &Manifest| Manifest::read(name, "identities", &manifest.text().unwrap());
    assert_eq!(read(&sound).unwrap(), sound);
    let newer = Manifest { format: FORMAT + 1, ..sound.clone() };
    says(&read(&newer).unwrap_err(), FaultKind::Refused, "has format 2", "newer one");
    for text in ["", "{}", "[1]", "{\"format\": 1}", "{\"format\": \"one\"}"] {
        let fault = Manifest::read(name, "identities", text.as_bytes()).unwrap_err();
        says(&fault, FaultKind::Refused, name, "put back");
    }
    let table = Manifest { table: "memberships".to_owned(), ..sound.clone() };
    says(&read(&table).unwrap_err(), FaultKind::Refused, "'memberships'", "put back");
    for object in ["identities/partition=0/../../x.parquet", "/etc/passwd", "identities/x.parquet", ""] {
        let mut outside = sound.clone();
        outside.files[0].object = object.to_owned();
        says(&read(&outside).unwrap_err(), FaultKind::Refused, "no file of the table", "put back");
    }
    let mut parts = sound;
    parts.files[0].part = 1;
    says(&read(&parts).unwrap_err(), FaultKind::Refused, "part 1 of 1", "put back");
}

/// Cuts of two partitions, by the number of commits of each and whether it has rows.
fn cuts() -> impl Strategy<Value = Vec<(u16, u64, bool)>> {
    prop::collection::vec((0..2_u16, 1..4_u64, any::<bool>()), 0..20)
}

fn listed(cuts: &[(u16, u64, bool)]) -> Manifest {
    let mut manifest = begun();
    for (partition, commits, full) in cuts {
        let first = manifest.covered(Partition(*partition)).seq.0 + 1;
        let cut = addition(*partition, first, first + commits - 1, *full);
        manifest = manifest.append(&[cut], 2_000).unwrap().unwrap();
    }
    manifest
}

/// How often each commit from 0 to beyond the last is listed.
fn times(manifest: &Manifest, partition: u16, seq: u64) -> usize {
    let mut ranges: Vec<Range> =
        manifest.by_range().into_keys().chain(manifest.empty.iter().copied()).collect();
    ranges.dedup();
    ranges
        .iter()
        .filter(|r| r.partition.0 == partition && r.first_seq.0 <= seq && seq <= r.last_seq.0)
        .count()
}

proptest! {
    #[test]
    fn any_cuts_and_merges_of_neighbours_list_every_commit_once(
        cuts in cuts(),
        merges in prop::collection::vec((0..2_u16, any::<prop::sample::Index>(), 1..5_usize, 0..3_u16), 0..6),
    ) {
        let mut manifest = listed(&cuts);
        for (partition, from, count, parts) in merges {
            let ranges: Vec<Range> =
                manifest.by_range().into_keys().filter(|range| range.partition.0 == partition).collect();
            if ranges.is_empty() {
                continue;
            }
            let from = from.index(ranges.len());
            let merged = &ranges[from..(from + count).min(ranges.len())];
            let whole = Range { last_seq: merged[merged.len() - 1].last_seq, ..merged[0] };
            let old: Vec<String> = manifest.files.iter()
                .filter(|file| file.range.is_within(whole)).map(|file| file.object.clone()).collect();
            let new: Vec<ListedFile> =
                (0..parts).map(|part| file(whole, part, parts, &format!("{part:020}"))).collect();
            manifest = manifest.replace(&old, whole, &new, 3_000).unwrap();
        }
        prop_assert_eq!(manifest.untiled(), vec![]);
        for partition in 0..2 {
            let reach = manifest.covered(Partition(partition));
            for seq in 0..reach.seq.0 + 3 {
                prop_assert_eq!(times(&manifest, partition, seq), usize::from((1..=reach.seq.0).contains(&seq)));
            }
        }
        prop_assert_eq!(Manifest::read("m", "identities", &manifest.text().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn whatever_is_changed_about_the_ranges_is_found(
        cuts in cuts(),
        at in any::<prop::sample::Index>(),
        how in 0..4,
        by in 1..3_u64,
    ) {
        let mut manifest = listed(&cuts);
        prop_assume!(!manifest.files.is_empty());
        let at = at.index(manifest.files.len());
        let range = &mut manifest.files[at].range;
        match how {
            0 => drop(manifest.files.remove(at)),
            1 => range.last_seq.0 += by,
            2 => range.first_seq.0 = range.first_seq.0.saturating_sub(by),
            _ => {
                let twice = manifest.files[at].clone();
                manifest.files.push(twice);
            }
        }
        prop_assert!(!manifest.untiled().is_empty());
    }
}
