//! When it is time for a file, and where it ends.

use super::*;

const AT: At = (Topic::Identities, Partition(0));
const OTHER: At = (Topic::Memberships, Partition(0));
const BOUNDS: LakeBounds =
    LakeBounds { age: Duration::from_secs(10), file_bytes: 1_000, buffer_bytes: 3_000 };

fn place(offset: u64) -> Place {
    Place { epoch: 0, offset }
}

fn second(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn cuts(covered: u64, next: u64) -> Cuts {
    Cuts::new(BOUNDS, [(AT, (Seq(covered), place(next))), (OTHER, (Seq(0), place(0)))])
}

/// A row of a commit, kept.
fn row(cuts: &mut Cuts, offset: u64, seq: u64, now: u64) {
    assert!(cuts.pass(AT, place(offset), Seq(seq), true, second(now)).unwrap_or_else(|e| panic!("{e}")));
}

fn ends(cut: Option<Cut>) -> Option<(u64, u64, u64)> {
    cut.map(|cut| (cut.first.0, cut.last.0, cut.until.offset))
}

#[test]
fn a_file_ends_between_two_commits() {
    let mut cuts = cuts(4, 10);
    assert_eq!(cuts.cut(AT, true), None, "nothing is buffered");
    row(&mut cuts, 10, 6, 0);
    row(&mut cuts, 11, 6, 0);
    assert_eq!(ends(cuts.cut(AT, false)), None, "more of commit 6 may come");
    assert_eq!(ends(cuts.cut(AT, true)), Some((5, 6, 12)));
    row(&mut cuts, 15, 9, 1);
    assert_eq!(ends(cuts.cut(AT, false)), Some((5, 6, 15)), "commit 9 has begun: 6 is whole");
    let cut = cuts.cut(AT, false).unwrap_or_else(|| panic!("a cut"));
    cuts.listed(&cut).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cuts.reads()[&AT], place(15), "commit 9 is still buffered");
    assert_eq!(cuts.next()[&AT], place(16));
    assert_eq!(cuts.due_in(second(4)), Some(second(7)), "commit 9 came at second 1");
    assert_eq!(ends(cuts.cut(AT, true)), Some((7, 9, 16)), "files tile");
    assert_eq!(cuts.covered(), [(AT.0, AT.1, Seq(6))]);
}

/// Up to the commit before the newest that any topic shows: that one may not be readable in the others yet.
#[test]
fn what_is_whole_in_all_topics_is_known_by_a_later_commit() {
    let mut cuts = cuts(4, 10);
    let whole = |cuts: &Cuts, ends: &[At]| cuts.whole(AT.1, &ends.iter().copied().collect()).0;
    assert_eq!(whole(&cuts, &[AT, OTHER]), 3, "nothing has come");
    row(&mut cuts, 10, 6, 0);
    row(&mut cuts, 11, 9, 0);
    assert_eq!(whole(&cuts, &[]), 0, "the other topic has brought nothing, and more may come");
    assert_eq!(whole(&cuts, &[OTHER]), 8, "it has nothing of commits up to 8; of 9 it may");
    assert_eq!(whole(&cuts, &[AT, OTHER]), 8);
    assert!(cuts.pass(OTHER, place(0), Seq(7), true, second(0)).is_ok_and(|kept| kept));
    assert_eq!(whole(&cuts, &[AT]), 6, "more of 7 may come");
    assert_eq!(cuts.whole(Partition(1), &BTreeSet::new()), Seq(0), "of a partition that is not read");
}

/// A commit whose end doesn't come is looked for now and then, not at every poll.
#[test]
fn a_commit_that_is_not_whole_is_waited_for() {
    let mut cuts = cuts(0, 0);
    row(&mut cuts, 0, 1, 0);
    let due = |cuts: &Cuts, now| cuts.due(now, |_| Buffered::default());
    assert_eq!(due(&cuts, second(10)), Due::All);
    cuts.committed();
    assert!(cuts.is_known());
    cuts.none_is_whole(second(10));
    assert_eq!((due(&cuts, second(10)), cuts.due_in(second(10))), (Due::Nothing, Some(second(1))));
    assert_eq!(due(&cuts, second(11)), Due::All);
    row(&mut cuts, 1, 2, 11);
    assert!(cuts.is_known(), "its rows are buffered still");
    assert_eq!(ends(cuts.cut(AT, false)), Some((1, 1, 1)));
}

#[test]
fn what_is_listed_is_skipped_and_seqs_only_grow() {
    let mut cuts = cuts(4, 0);
    let pass = |cuts: &mut Cuts, offset, seq| cuts.pass(AT, place(offset), Seq(seq), true, second(0));
    assert!(pass(&mut cuts, 0, 3).is_ok_and(|kept| !kept) && pass(&mut cuts, 1, 4).is_ok_and(|kept| !kept));
    assert_eq!(cuts.reads()[&AT], place(2));
    assert!(pass(&mut cuts, 2, 5).is_ok_and(|kept| kept));
    assert!(pass(&mut cuts, 3, 7).is_ok_and(|kept| kept));
    assert!(pass(&mut cuts, 4, 6).is_err_and(|fault| fault.what.contains("commit 6 comes after commit 7")));
}

#[test]
fn what_is_no_row_moves_reads_on_only_where_nothing_waits() {
    let mut cuts = cuts(0, 0);
    let watermark = |cuts: &mut Cuts, offset, seq| {
        let kept = cuts.pass(AT, place(offset), Seq(seq), false, second(0));
        assert!(kept.is_ok_and(|kept| !kept));
    };
    watermark(&mut cuts, 0, 1);
    assert_eq!((cuts.reads()[&AT], cuts.cut(AT, true)), (place(1), None));
    assert_eq!(cuts.due_in(second(3)), Some(second(7)), "progress is to know of it some time");
    cuts.committed();
    assert_eq!(cuts.due_in(second(3)), None);
    row(&mut cuts, 1, 2, 4);
    watermark(&mut cuts, 2, 3);
    cuts.pass_over(AT, place(3), second(4)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cuts.reads()[&AT], place(1));
    cuts.committed();
    assert_eq!(cuts.due_in(second(4)), Some(second(10)), "the row waits");
    assert_eq!(ends(cuts.cut(AT, false)), Some((1, 2, 2)));
    let cut = cuts.cut(AT, true).unwrap_or_else(|| panic!("a cut"));
    cuts.listed(&cut).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cuts.reads()[&AT], place(4));
}

#[test]
fn it_is_time_by_age_by_a_full_file_and_by_all_together() {
    let bytes = |a: u64, b: u64| move |at: At| Buffered { rows: 1, bytes: if at == AT { a } else { b } };
    let mut cuts = cuts(0, 0);
    assert_eq!(cuts.due(second(100), bytes(0, 0)), Due::Nothing);
    row(&mut cuts, 0, 1, 5);
    assert_eq!(cuts.due(second(14), bytes(999, 999)), Due::Nothing);
    assert_eq!(cuts.due(second(15), bytes(1, 1)), Due::All);
    assert_eq!(cuts.due(second(6), bytes(1_000, 999)), Due::Some(vec![AT]));
    assert_eq!(cuts.due(second(6), bytes(1_500, 2_000)), Due::Some(vec![OTHER, AT]));
    let narrow = LakeBounds { file_bytes: 10_000, ..BOUNDS };
    let cuts = Cuts { bounds: narrow, ..cuts };
    assert_eq!(cuts.due(second(6), bytes(1_400, 1_599)), Due::Nothing);
    assert_eq!(cuts.due(second(6), bytes(1_400, 1_600)), Due::Some(vec![OTHER]), "down to half");
    assert_eq!(cuts.due(second(6), bytes(1_501, 1_501)), Due::Some(vec![OTHER, AT]));
}
