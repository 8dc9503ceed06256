//! What must not matter: how many partitions there are (C07), how inputs are batched (C06), and when it runs (C11).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use rollcall_kit::MemoryStore;
use rollcall_model::{Input, LogId, NativeId, Partition, Place, SegmentId};
use rollcall_roster::counts::Counts;
use rollcall_roster::output::Passed;
use rollcall_roster::{Catalog, Output, Roster, RosterState, Turn};

use crate::world::{Op, World, op};

/// What is said of one identity, in order: trait keys, entered, left, when, version.
type Said = (BTreeSet<String>, Vec<SegmentId>, Vec<SegmentId>, i64, i64);

/// Plays a history through so many partitions, in batches of so many inputs.
fn play(
    inputs: &[Input],
    catalog: &Arc<Catalog>,
    partitions: u16,
    batch: usize,
) -> BTreeMap<NativeId, Vec<Said>> {
    let mut said: BTreeMap<NativeId, Vec<Said>> = BTreeMap::new();
    for partition in (0..partitions).map(Partition) {
        for output in outputs(inputs, catalog, partition, partitions, batch) {
            for passed in output.changes {
                let Passed::Record(change) = passed else { continue };
                let line = (change.changed, change.entered, change.left, change.at_us, change.version.0);
                said.entry(change.id).or_default().push(line);
            }
        }
    }
    said
}

fn outputs(
    inputs: &[Input],
    catalog: &Arc<Catalog>,
    partition: Partition,
    partitions: u16,
    batch: usize,
) -> Vec<Output> {
    let log = LogId("log".into());
    let mut roster = Roster::new(log, partition, RosterState::default(), Counts::default(), i64::MAX / 2);
    roster.set_catalog(Arc::clone(catalog));
    let mut store = MemoryStore::default();
    let own: Vec<(usize, Input)> = inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| {
            let elsewhere =
                matches!(input, Input::Change(change) if change.key().partition(partitions) != partition);
            !elsewhere
        })
        .map(|(at, input)| (at, input.clone()))
        .collect();
    let mut outputs = Vec::new();
    let mut at = 0;
    while at < own.len() {
        let mut session = roster.session(&store);
        for _ in 0..batch {
            let Some((offset, input)) = own.get(at) else { break };
            match session.apply(Place { epoch: 0, offset: *offset as u64 }, input).unwrap() {
                Turn::Done => at += 1,
                Turn::Unfinished | Turn::NeedsCatalog { .. } | Turn::NeedsQuarantine { .. } => break,
            }
        }
        session.fill_some().unwrap();
        let output = session.finish();
        store.write(output.stored.clone());
        outputs.push(output);
    }
    outputs
}

/// A history whose catalog stands before its identities: no fill finds anything to do.
fn history(ops: &[Op]) -> (Vec<Input>, Arc<Catalog>) {
    let mut world = World::new(&[(1, 0, 1), (2, 1, 2)], 4);
    for segment in 0..4 {
        world.run(&Op::Segment { segment, rule: segment, deleted: false });
    }
    for env in 0..3 {
        world.run(&Op::Environment { env, name: 0, key: 0, deleted: false });
    }
    for op in ops {
        let of_identities = matches!(
            op,
            Op::Upsert { .. }
                | Op::Set { .. }
                | Op::Unset { .. }
                | Op::Rename { .. }
                | Op::Move { .. }
                | Op::Delete { .. }
                | Op::Truncate { .. }
                | Op::Backfill
                | Op::Page
        );
        if of_identities {
            world.run(op);
        }
    }
    (world.inputs().to_vec(), world.catalog_now())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn c06_c07_neither_partitions_nor_batches_matter(ops in prop::collection::vec(op(), 0..60)) {
        let (inputs, catalog) = history(&ops);
        let one = play(&inputs, &catalog, 1, 1);
        for (partitions, batch) in [(1, 7), (2, 3), (7, 1), (7, 50)] {
            prop_assert_eq!(&play(&inputs, &catalog, partitions, batch), &one);
        }
    }

    #[test]
    fn c11_the_same_log_gives_the_same_records(ops in prop::collection::vec(op(), 0..60)) {
        let (inputs, catalog) = history(&ops);
        let play = || outputs(&inputs, &catalog, Partition(0), 1, 5);
        prop_assert_eq!(play(), play());
    }
}
