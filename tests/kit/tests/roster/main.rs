//! The roster against a naive oracle that recomputes everything: generated histories of changes, catalog edits,
//! gates, backfills and fills, with duplicates, rewinds, crashes and lost stores anywhere in between.
//!
//! Shows C01 (membership = oracle), C02 (the sum of the changes is the membership, entered and left alternating), C03
//! (counts and fingerprints = sets), C04 (replay emits nothing), C06 (any batching), C08 and C10 (crash anywhere, lost
//! or stale store), C12 (no effect, no output), C30, C32, C33, C36–C38 (edits, deletions and environments during
//! fills and backfills).
#![allow(clippy::unwrap_used)]

mod world;

use proptest::prelude::*;
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
