//! Random histories of counts, delivered as badly as a log may (C03, C04, C05, C06, C08, C09): twice, in any subset,
//! out of order across batches, cut off in mid-transaction, by two sinks at once, beside deletes of environments and
//! segments and beside another writer. What stands at the end is compared with a plain sum.
//!
//! `ROLLCALL_SEED=7 cargo test -p rollcall-sink-counts history` runs one seed again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::prelude::*;
use rollcall_model::sink::CheckRequest;
use rollcall_model::{CheckScope, CountState, Delivery, FaultKind, Partition, Sink};
use rollcall_sink_counts::{CountsSink, Preset};
use tokio_postgres::Client;

use crate::support::{Server, count_record, flagsmith, flagsmith_rows, native_rows, watermark};

const PARTITIONS: u16 = 3;
const SEGMENTS: i32 = 6;
const ENVIRONMENTS: i32 = 4;
const ROUNDS: usize = 60;

/// What rosters said, partition by partition, and where the sink's task stands in it.
#[derive(Default)]
struct Part {
    now: BTreeMap<(i32, i32), (u64, CountState)>,
    said: Vec<Delivery>,
    seq: u64,
    delivered: usize,
}

struct World {
    rng: StdRng,
    parts: Vec<Part>,
    deleted_segments: BTreeSet<i32>,
    deleted_environments: BTreeSet<i32>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            parts: (0..PARTITIONS).map(|_| Part::default()).collect(),
            deleted_segments: BTreeSet::new(),
            deleted_environments: BTreeSet::new(),
        }
    }

    fn gone(&self, (segment, environment): (i32, i32)) -> bool {
        self.deleted_segments.contains(&segment) || self.deleted_environments.contains(&environment)
    }

    /// One roster commit: some counts move, then perhaps a watermark.
    fn commit(&mut self) {
        let p = self.rng.random_range(0..PARTITIONS);
        let mut pairs = BTreeSet::new();
        for _ in 0..self.rng.random_range(1..6) {
            let pair = (self.rng.random_range(1..=SEGMENTS), self.rng.random_range(1..=ENVIRONMENTS));
            if !self.gone(pair) {
                pairs.insert(pair);
            }
        }
        let changes: Vec<_> = pairs.into_iter().map(|pair| (pair, self.next_count(p, pair))).collect();
        self.say(p, changes);
    }

    fn next_count(&mut self, p: u16, pair: (i32, i32)) -> (u64, CountState) {
        let (count, state) =
            self.parts[usize::from(p)].now.get(&pair).cloned().unwrap_or((0, CountState::Live));
        if self.rng.random_bool(0.1) {
            return match self.rng.random_range(0..3) {
                0 => (0, CountState::Unsupported { reason: "regex".into() }),
                1 => (self.rng.random_range(0..9), CountState::Filling),
                _ => (self.rng.random_range(0..9), CountState::Live),
            };
        }
        match state {
            CountState::Live | CountState::Filling if self.rng.random_bool(0.3) => (0, state),
            CountState::Live | CountState::Filling => (count + self.rng.random_range(0..4), state),
            CountState::Unsupported { .. } | CountState::Removed => (0, state),
        }
    }

    fn say(&mut self, p: u16, changes: Vec<((i32, i32), (u64, CountState))>) {
        let at_us = self.rng.random_range(0..2_000_000_000_000_000);
        let part = &mut self.parts[usize::from(p)];
        part.seq += 1;
        for ((segment, environment), (count, state)) in changes {
            part.said.push(count_record(segment, environment, p, part.seq, count, state.clone()));
            part.now.insert((segment, environment), (count, state));
        }
        part.said.push(watermark("core", p, part.seq, at_us));
    }

    /// Every partition hears, in its own time, that what is deleted is gone.
    fn say_removed(&mut self) {
        for p in 0..PARTITIONS {
            let gone: Vec<_> = self.parts[usize::from(p)]
                .now
                .iter()
                .filter(|(pair, (_, state))| self.gone(**pair) && *state != CountState::Removed)
                .map(|(pair, _)| (*pair, (0, CountState::Removed)))
                .collect();
            if !gone.is_empty() {
                self.say(p, gone);
            }
        }
    }

    /// The next stretch of every partition, and where it ends.
    fn next_batch(&mut self) -> (Vec<Delivery>, Vec<usize>) {
        let mut ends = Vec::new();
        let mut batch = Vec::new();
        for part in &self.parts {
            let left = part.said.len() - part.delivered;
            let end = part.delivered + self.rng.random_range(0..=left);
            batch.extend_from_slice(&part.said[part.delivered..end]);
            ends.push(end);
        }
        (batch, ends)
    }

    fn delivered(&mut self, ends: &[usize]) {
        for (part, end) in self.parts.iter_mut().zip(ends) {
            part.delivered = *end;
        }
    }

    /// Some records said so far, in any order, perhaps twice.
    fn stale_batch(&mut self) -> Vec<Delivery> {
        let said: Vec<&Delivery> = self.parts.iter().flat_map(|part| &part.said[..part.delivered]).collect();
        let count = self.rng.random_range(0..12);
        (0..count).filter_map(|_| said.choose(&mut self.rng).map(|d| (*d).clone())).collect()
    }

    /// The sum over partitions; `None` where there is nothing to count.
    fn oracle(&self) -> BTreeMap<(i32, i32), (Option<i64>, &'static str)> {
        let mut rows = BTreeMap::new();
        for segment in 1..=SEGMENTS {
            for environment in 1..=ENVIRONMENTS {
                let pair = (segment, environment);
                let parts: Vec<_> = self.parts.iter().filter_map(|part| part.now.get(&pair)).collect();
                let any = |wanted: fn(&CountState) -> bool| parts.iter().any(|(_, state)| wanted(state));
                let sum = parts.iter().map(|(count, _)| count.cast_signed()).sum();
                if parts.is_empty() || any(|s| *s == CountState::Removed) {
                    continue;
                }
                let row = if any(|s| matches!(s, CountState::Unsupported { .. })) {
                    (None, "unsupported")
                } else if any(|s| *s == CountState::Filling) {
                    (Some(sum), "filling")
                } else {
                    (Some(sum), "live")
                };
                rows.insert(pair, row);
            }
        }
        rows
    }
}

/// Writes as the runtime does: again and again as long as the fault passes.
async fn write(sink: &mut CountsSink, batch: &[Delivery]) {
    for _ in 0..100 {
        match sink.write(batch).await {
            Ok(written) => return assert_eq!(written.rejected, []),
            Err(fault) => assert_eq!(fault.kind, FaultKind::Retry, "{fault}"),
        }
    }
    panic!("a batch was never taken");
}

/// As the platform deletes: softly, or its count rows and then the row itself.
async fn delete(client: &mut Client, table: &str, column: &str, id: i32, hard: bool) {
    if !hard {
        let sql = format!("UPDATE {table} SET deleted_at = now() WHERE id = {id}");
        client.batch_execute(&sql).await.expect("deletes softly");
        return;
    }
    for _ in 0..100 {
        let tx = client.transaction().await.expect("begins");
        let sql = format!(
            "DELETE FROM segment_membership_segmentmembershipcount WHERE {column} = {id};
             DELETE FROM {table} WHERE id = {id};"
        );
        // A count row may have come in between; the platform tries again.
        if tx.batch_execute(&sql).await.is_ok() && tx.commit().await.is_ok() {
            return;
        }
    }
    panic!("the platform could not delete {table} {id}");
}

/// As Flagsmith's own refresh, and people, change count rows.
async fn disturb(client: &Client, rng: &mut StdRng) {
    let pair = (rng.random_range(1..=SEGMENTS), rng.random_range(1..=ENVIRONMENTS));
    let count = rng.random_range(0..50);
    let sql = match rng.random_range(0..3) {
        0 => format!("UPDATE segment_membership_segmentmembershipcount SET count = {count} WHERE segment_id = {}", pair.0),
        1 => format!("DELETE FROM segment_membership_segmentmembershipcount WHERE environment_id = {}", pair.1),
        _ => format!(
            "INSERT INTO segment_membership_segmentmembershipcount (segment_id, environment_id, count, last_synced_at)
             VALUES ({}, {}, {count}, now()) ON CONFLICT (segment_id, environment_id) DO NOTHING",
            pair.0, pair.1
        ),
    };
    // A row for what is deleted hard fails at its COMMIT, not ours.
    let _ = client.batch_execute(&sql).await;
}

struct Run {
    preset: Preset,
    /// Another writer changes rows, and reconcile repairs them.
    disturbed: bool,
}

impl Run {
    async fn seed(&self, server: &Server, seed: u64) {
        println!("seed {seed}");
        let mut admin = server.client().await;
        admin.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.expect("empties");
        flagsmith(&admin, SEGMENTS, ENVIRONMENTS).await;
        let mut world = World::new(seed);
        let mut sink = server.sink(self.preset, PARTITIONS).await;
        let mut zombie = server.sink(self.preset, PARTITIONS).await;
        for _ in 0..ROUNDS {
            for _ in 0..world.rng.random_range(0..6) {
                world.commit();
            }
            self.round(&mut world, &mut sink, &mut zombie, &mut admin).await;
            if self.preset == Preset::Native {
                // Whoever reads at whatever moment sees rows that are the ledger's sums.
                assert_eq!(differences(&mut zombie).await, Vec::<String>::new(), "seed {seed}");
            }
        }
        world.say_removed();
        while world.parts.iter().any(|part| part.delivered < part.said.len()) {
            let (batch, ends) = world.next_batch();
            write(&mut sink, &batch).await;
            world.delivered(&ends);
        }
        if self.disturbed {
            while !sink.reconcile().await.expect("reconciles").is_empty() {}
        }
        self.compare(&world, &admin, seed).await;
        assert_eq!(differences(&mut sink).await, Vec::<String>::new(), "seed {seed}");
    }

    async fn round(
        &self,
        world: &mut World,
        sink: &mut CountsSink,
        zombie: &mut CountsSink,
        admin: &mut Client,
    ) {
        let (batch, ends) = world.next_batch();
        match world.rng.random_range(0..10) {
            0 => {
                // Cut off at any of its awaits; the answer may be lost after the commit too.
                let cut = Duration::from_micros(world.rng.random_range(0..4000));
                if let Ok(Ok(_)) = tokio::time::timeout(cut, sink.write(&batch)).await {
                    world.delivered(&ends);
                }
                return;
            }
            1 => {
                let back: Vec<usize> =
                    world.parts.iter().map(|part| world.rng.random_range(0..=part.delivered)).collect();
                return world.delivered(&back);
            }
            2 => {
                let stale = world.stale_batch();
                write(sink, &stale).await;
            }
            3 | 4 => {
                let stale = world.stale_batch();
                tokio::join!(write(sink, &batch), write(zombie, &stale));
                return world.delivered(&ends);
            }
            5 => {
                // Both deliver at once, and one of them not all: the same count comes with two seqs.
                let some: Vec<Delivery> =
                    batch.iter().filter(|_| world.rng.random_bool(0.5)).cloned().collect();
                tokio::join!(write(zombie, &some), write(sink, &batch));
                return world.delivered(&ends);
            }
            6 => {
                let hard = world.rng.random_bool(0.5);
                let (gone, gone_max, table, column, ids) = if world.rng.random_bool(0.5) {
                    (&mut world.deleted_segments, 2, "segments_segment", "segment_id", SEGMENTS)
                } else {
                    (
                        &mut world.deleted_environments,
                        1,
                        "environments_environment",
                        "environment_id",
                        ENVIRONMENTS,
                    )
                };
                let id = world.rng.random_range(1..=ids);
                if gone.len() == gone_max || !gone.insert(id) {
                    return;
                }
                tokio::join!(write(sink, &batch), delete(admin, table, column, id, hard));
                world.delivered(&ends);
                if world.rng.random_bool(0.5) {
                    world.say_removed();
                }
                return;
            }
            7 if self.disturbed => {
                tokio::join!(write(sink, &batch), disturb(admin, &mut world.rng));
                return world.delivered(&ends);
            }
            8 => {
                // Reconcile beside a writer: neither undoes the other.
                let (reconciled, ()) = tokio::join!(zombie.reconcile(), write(sink, &batch));
                match reconciled {
                    Ok(lines) => {
                        assert!(self.disturbed || lines.iter().all(|l| l.contains("says absent now")))
                    }
                    Err(fault) => assert_eq!(fault.kind, FaultKind::Retry, "{fault}"),
                }
                return world.delivered(&ends);
            }
            _ => {}
        }
        write(sink, &batch).await;
        world.delivered(&ends);
    }

    async fn compare(&self, world: &World, client: &Client, seed: u64) {
        let oracle = world.oracle();
        match self.preset {
            Preset::Native => {
                let expected: BTreeMap<_, _> = oracle
                    .into_iter()
                    .map(|(pair, (count, state))| (pair, (count, state.to_owned())))
                    .collect();
                assert_eq!(native_rows(client).await, expected, "seed {seed}");
            }
            Preset::Flagsmith => {
                let expected: BTreeMap<_, _> = oracle
                    .into_iter()
                    .filter_map(|(pair, (count, _))| count.filter(|n| *n > 0).map(|n| (pair, n)))
                    .collect();
                assert_eq!(flagsmith_rows(client).await, expected, "seed {seed}");
            }
        }
    }
}

async fn differences(sink: &mut CountsSink) -> Vec<String> {
    let request = CheckRequest { id: "c".into(), partition: Partition(0), scope: CheckScope::Totals };
    sink.check(&request).await.expect("checks").differences
}

async fn run(preset: Preset, disturbed: bool) {
    let server = Server::start();
    let run = Run { preset, disturbed };
    let seeds = match std::env::var("ROLLCALL_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("ROLLCALL_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..8,
    };
    for seed in seeds {
        run.seed(&server, seed).await;
    }
}

#[tokio::test]
async fn history_native_is_the_plain_sum() {
    run(Preset::Native, false).await;
}

#[tokio::test]
async fn history_flagsmith_is_the_plain_sum() {
    run(Preset::Flagsmith, false).await;
}

#[tokio::test]
async fn history_flagsmith_with_another_writer_is_the_plain_sum_after_reconcile() {
    run(Preset::Flagsmith, true).await;
}
