//! Order, and nothing lost or doubled, whatever the stream's shards and the service do.

use std::time::Duration;

use rollcall_dynamo_sim::{Action, DynamoSim, ErrorCode, Faults, SimSettings};
use rollcall_model::ShardSource;
use rollcall_model::shards::StreamStart;

use crate::group::{Group, config, item};

fn quiet(seed: u64, shards: u32) -> SimSettings {
    SimSettings { seed, shards, roll: None, ..SimSettings::default() }
}

/// A number from the seed: tests repeat.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n.max(1) as u64).expect("small")
    }
}

fn write(sim: &DynamoSim, draw: &mut Draw, count: usize) {
    for _ in 0..count {
        let key = format!("key-{}", draw.below(40));
        if draw.below(10) == 0 {
            sim.delete(&key);
        } else {
            sim.put(item(&key, draw.below(1 << 30) as u64)).expect("written");
        }
    }
}

async fn history(seed: u64, faults: Faults) {
    println!("seed {seed}");
    let sim = DynamoSim::start(quiet(seed, 3));
    let mut draw = Draw(seed);
    write(&sim, &mut draw, 30);
    let mut group = Group::begin(config(&sim.url(), StreamStart::TrimHorizon, 3)).await;
    sim.set_faults(faults);
    group.start().await;
    for _ in 0..12 {
        write(&sim, &mut draw, 40);
        let open = sim.open_shards();
        let shard = &open[draw.below(open.len())];
        if draw.below(2) == 0 {
            sim.split(shard);
        } else {
            sim.roll(shard);
        }
        for _ in 0..draw.below(20) {
            group.turn().await.expect("it bears all of this");
        }
        if draw.below(3) == 0 {
            // A worker dies, another takes its task: what was not saved comes again.
            let index = u16::try_from(draw.below(3)).expect("an index");
            group.readers.remove(&index);
            group.try_start(index).await.expect("it goes on");
        }
    }
    let all = sim.history().len();
    group.until(|group| group.log.len() >= all).await.expect("it bears all of this");
    group.expect_all_of(&sim, 0);
}

#[tokio::test]
async fn an_items_changes_come_in_order_and_once_over_splits_rolls_and_deaths() {
    for seed in 1..4 {
        history(seed, Faults::default()).await;
    }
}

#[tokio::test]
async fn throttling_errors_lost_answers_and_expired_iterators_change_nothing() {
    history(11, Faults { trimmed_iterator_percent: 5, ..Faults::bearable(5) }).await;
}

#[tokio::test]
async fn an_expired_iterator_goes_on_behind_the_last_record() {
    let sim = DynamoSim::start(quiet(5, 1));
    let mut group = Group::begin(config(&sim.url(), StreamStart::TrimHorizon, 1)).await;
    group.start().await;
    for round in 0..5u64 {
        sim.put(item("a", round)).expect("written");
        for code in [ErrorCode::ExpiredIterator, ErrorCode::Throttling, ErrorCode::InternalServerError] {
            sim.refuse_next(Action::GetRecords, code);
        }
        let count = usize::try_from(round + 1).expect("small");
        group.until(|group| group.log.len() >= count).await.expect("it goes on");
        // Iterators live for 15 minutes.
        sim.advance(Duration::from_secs(16 * 60));
    }
    group.expect_all_of(&sim, 0);
}

#[tokio::test]
async fn all_shards_are_read_though_they_come_in_many_pages() {
    let sim = DynamoSim::start(quiet(7, 250));
    let mut group = Group::begin(config(&sim.url(), StreamStart::TrimHorizon, 2)).await;
    for n in 0..2_000u64 {
        sim.put(item(&format!("key-{n}"), n)).expect("written");
    }
    group.start().await;
    group.until(|group| group.log.len() >= 2_000).await.expect("all are read");
    group.expect_all_of(&sim, 0);
    let noted: usize = group.saved.values().map(|shards| shards.shards.len()).sum();
    assert_eq!(noted, 250);
}

#[tokio::test]
async fn the_latest_is_what_is_written_after_the_beginning_whenever_readers_start() {
    let sim = DynamoSim::start(quiet(9, 3));
    let mut draw = Draw(9);
    write(&sim, &mut draw, 60);
    for shard in sim.open_shards() {
        sim.split(&shard);
    }
    write(&sim, &mut draw, 60);
    sim.advance(Duration::from_secs(60));
    let before = sim.history().len();
    let mut group = Group::begin(config(&sim.url(), StreamStart::Latest, 2)).await;
    // What was open at the beginning ends before any reader starts.
    write(&sim, &mut draw, 60);
    for shard in sim.open_shards() {
        sim.roll(&shard);
    }
    write(&sim, &mut draw, 60);
    let all = sim.history().len() - before;
    group.start().await;
    group.until(|group| group.log.len() >= all).await.expect("all are read");
    // Not one of them was saved; it begins again.
    group.stop();
    (group.log, group.saved) = Default::default();
    group.start().await;
    group.until(|group| group.log.len() >= all).await.expect("all are read");
    group.expect_all_of(&sim, before);
}

#[tokio::test]
async fn an_idle_stream_says_how_far_it_is_in_the_log() {
    let sim = DynamoSim::start(quiet(13, 4));
    let mut group = Group::begin(config(&sim.url(), StreamStart::Latest, 2)).await;
    group.start().await;
    sim.put(item("a", 1)).expect("written");
    sim.advance(Duration::from_secs(600));
    // A shard's end and its child's beginning are not taken for all being read.
    let open = sim.open_shards();
    sim.split(&open[0]);
    let wanted_us = sim.now_us() - 10_000_000;
    let is_through = |shards: &rollcall_model::Shards| {
        shards.shards.values().all(|shard| shard.finished || shard.through_us >= wanted_us)
    };
    let is_idle = |group: &Group| group.log.len() == 1 && group.saved.values().all(is_through);
    group.until(is_idle).await.expect("it goes on");
    group.expect_all_of(&sim, 0);
    let oldest = group.readers.values().filter_map(|reader| reader.oldest_unread()).map(|(_, ms)| ms).max();
    assert!(oldest.is_some_and(|ms| ms < 600_000), "{oldest:?}");
}
