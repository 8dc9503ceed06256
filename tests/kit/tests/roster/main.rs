//! The roster against a naive oracle that recomputes everything: generated histories of changes, catalog edits,
//! gates, backfills and fills, with duplicates, rewinds, crashes and lost stores anywhere in between.
//!
//! Shows C01 (membership = oracle), C02 (the sum of the changes is the membership, entered and left alternating), C03
//! (counts and fingerprints = sets), C04 (replay emits nothing), C06 (any batching), C08 and C10 (crash anywhere, lost
//! or stale store), C12 (no effect, no output), C30, C32, C33, C36–C38 (edits, deletions and environments during
//! fills and backfills).
#![allow(clippy::unwrap_used)]

mod beside;
mod invariance;
mod tombstones;
mod world;

use proptest::prelude::*;
use rollcall_model::{CountState, GateMode};
use world::{Op, World, op};

fn histories() -> u32 {
    std::env::var("ROSTER_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn c01_c38_any_history_ends_as_the_oracle_says(
        before in prop::collection::vec((0..12_i64, 0..3_usize, 0..4_i64), 0..8),
        ops in prop::collection::vec(op(), 0..70),
        scan_rows in 1..6_usize,
    ) {
        let mut world = World::new(&before, scan_rows);
        for op in &ops {
            world.run(op);
        }
        world.settle();
        world.assert_as_oracle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    /// The same without a backfill at the end, which would judge everybody again and so hide a fill that never
    /// started or ended early. Coming back from an excluded organisation needs one, so nobody is excluded here.
    #[test]
    fn c30_fills_alone_end_as_the_oracle_says(
        before in prop::collection::vec((0..12_i64, 0..3_usize, 0..4_i64), 0..8),
        ops in prop::collection::vec(op(), 0..70),
        scan_rows in 1..6_usize,
    ) {
        let mut world = World::new(&before, scan_rows);
        world.backfill_everything();
        for op in ops.iter().filter(|op| !matches!(op, Op::Gate { mode: GateMode::Exclude, .. })) {
            world.run(op);
        }
        world.process_everything();
        world.assert_as_oracle();
    }
}

/// An edit that is taken back before the partition reaches it: what was judged by it in between is judged again.
#[test]
fn c30_an_edit_taken_back_while_the_partition_lags_is_filled() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 1, deleted: false });
    world.backfill_everything();
    world.run(&Op::Set { id: 1, key: 1, value: 3 });
    // `plan` is 1: the edit lets it in, before `catalog(n)` is reached.
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.run(&Op::Process { inputs: 1 });
    world.run(&Op::Segment { segment: 0, rule: 1, deleted: false });
    world.process_everything();
    world.assert_as_oracle();
}

/// C32: an edit that changes no rule starts no fill and writes nothing.
#[test]
fn c32_a_rename_of_a_segment_changes_nothing() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.settle();
    let written = world.written();
    world.rename_segment(0);
    world.settle();
    assert_eq!(world.written(), written);
}

/// C33: one change during a fill, one event, with the newest catalog.
#[test]
fn a_transaction_is_one_event_with_all_its_keys() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.settle();
    let events = world.events().len();
    world.set_two_traits(1);
    world.settle();
    let new = &world.events()[events..];
    assert_eq!(new.len(), 1, "{new:?}");
    let keys: Vec<_> = new[0].changed.iter().map(String::as_str).collect();
    assert_eq!(keys, ["plan", "seats"]);
}

/// A patch that can't be applied parks its identity; later ones wait behind it, in order, and a replay drives them.
#[test]
fn parked_changes_replay_in_order() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.settle();
    world.patch_with_unknown_text(1);
    world.run(&Op::Set { id: 1, key: 0, value: 3 });
    world.run(&Op::Set { id: 1, key: 0, value: 2 });
    world.process_everything();
    assert_eq!(world.quarantined(), 3);
    let before = world.image(1);
    world.mend_text(1);
    world.replay(1);
    world.process_everything();
    assert_ne!(world.image(1), before);
    // The first change still can't be applied: all of them wait again.
    assert_eq!(world.quarantined(), 3);
    world.backfill_everything();
    assert_eq!(world.quarantined(), 0, "a whole image makes what waited obsolete");
    world.assert_as_oracle();
}

/// The suspension of a segment that raised ends with its document: also a rename fills it, and it raises again. It is
/// never shown as empty.
#[test]
fn a_renamed_segment_that_raised_is_judged_again() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 6, deleted: false });
    world.backfill_everything();
    assert_eq!(world.suspended(), 1);
    world.rename_segment(0);
    world.process_everything();
    assert_eq!(world.suspended(), 1);
    assert!(
        matches!(world.count_state(0), Some(CountState::Unsupported { .. })),
        "{:?}",
        world.count_state(0)
    );
}

/// A deletion settles what waits of an identity, whether or not anything readable was ever said of it.
#[test]
fn what_waits_of_a_deleted_identity_is_settled() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.backfill_everything();
    world.run(&Op::Delete { id: 1 });
    world.invalid(1);
    world.invalid(2);
    world.process_everything();
    assert_eq!(world.quarantined(), 2);
    world.delete_unseen(1);
    world.delete_unseen(2);
    world.process_everything();
    assert_eq!(world.quarantined(), 0);
}

/// After a gap in the stream a count is not called exact again before a whole backfill has ended.
#[test]
fn counts_after_a_gap_are_filling_until_the_backfill_ends() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.backfill_everything();
    assert_eq!(world.count_state(0), Some(CountState::Live));
    world.begin_after(true);
    world.process_everything();
    assert_eq!(world.count_state(0), Some(CountState::Filling));
    world.backfill_everything();
    assert_eq!(world.count_state(0), Some(CountState::Live));
    world.begin_after(false);
    world.process_everything();
    assert_eq!(
        world.count_state(0),
        Some(CountState::Live),
        "a repair beside a whole stream changes nothing"
    );
}

/// An identity that moves to an environment nobody has heard of yet is gone from the old one.
#[test]
fn who_moves_to_an_unknown_environment_leaves_the_old_one() {
    let mut world = World::new(&[(1, 0, 1)], 4);
    world.run(&Op::Segment { segment: 0, rule: 0, deleted: false });
    world.backfill_everything();
    let events = world.events().len();
    world.run(&Op::Move { id: 1, env: 2 });
    world.process_everything();
    let told: Vec<_> = world.events()[events..].iter().map(|e| e.environment_key.as_str()).collect();
    assert_eq!(told, ["key0-0"], "left there, and nothing is said of where to");
    assert_eq!(world.last_identity().environment_key, None);
    assert!(world.last_identity().left_environment_keys.contains("key0-0"));
    world.run(&Op::Environment { env: 2, name: 0, key: 0, deleted: false });
    world.process_everything();
    assert_eq!(world.last_identity().environment_key.as_deref(), Some("key2-0"));
    world.assert_as_oracle();
}
