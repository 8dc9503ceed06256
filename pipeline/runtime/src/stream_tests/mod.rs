//! The owner and the readers of a stream against the simulator of DynamoDB: whatever splits, rolls, throttles, crashes and
//! moves, each record is in the log once and in its key's order, and in the end the log holds what the table holds.
//!
//! `STREAM_HISTORIES=1000` runs more histories than the usual ones, `STREAM_SEED=n` repeats one.
#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_dynamo_sim::Faults;
use rollcall_model::shards::StreamStart;

use world::{SPEED, SPEED_OF_DAYS, World};

/// Histories that run at one time: they mostly wait.
const AT_ONCE: usize = 12;
const HISTORIES: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Random writes, shards, faults, crashes and moves; then everything comes to rest and is compared.
async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let start = if random.random_bool(0.5) { StreamStart::TrimHorizon } else { StreamStart::Latest };
    let mut world = World::new(seed, random.random_range(1..4), start, SPEED);
    for _ in 0..random.random_range(0..12) {
        world.write(&mut random);
    }
    world.sim.set_faults(Faults::bearable(random.random_range(0..7)));
    world.start_all();
    for _ in 0..random.random_range(10..60) {
        match random.random_range(0..100) {
            0..62 => world.write(&mut random),
            62..68 => world.sim.advance(Duration::from_secs(random.random_range(1..1_200))),
            68..74 => world.split_or_roll(&mut random),
            74..82 => world.crash(&mut random),
            82..85 => world.start_double(&mut random),
            85..88 => world.backfill(false, None).await,
            _ => tokio::time::sleep(Duration::from_millis(random.random_range(1..25))).await,
        }
    }
    world.sim.set_faults(Faults::default());
    world.rest().await;
    world.assert_exact();
}

/// The same, and then nobody reads for longer than the stream keeps: a refusal that names the repair, and a repair that
/// brings everything back.
async fn lossy_history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, random.random_range(1..4), StreamStart::Latest, SPEED_OF_DAYS);
    world.start_all();
    for _ in 0..random.random_range(5..25) {
        world.write(&mut random);
        if random.random_bool(0.2) {
            world.split_or_roll(&mut random);
        }
    }
    world.rest().await;
    world.stop_all();
    for _ in 0..random.random_range(1..12) {
        world.write(&mut random);
    }
    if random.random_bool(0.3) {
        world.recreate_stream();
    }
    world.sim.advance(Duration::from_secs(27 * 3_600));
    for _ in 0..random.random_range(0..6) {
        world.write(&mut random);
    }
    world.start_all();
    let refused = world.refused().await;
    assert!(refused.contains("rollcall backfill edge --repair"), "{refused}");
    world.backfill(true, None).await;
    for _ in 0..random.random_range(0..6) {
        world.write(&mut random);
    }
    world.rest_repairing().await;
    world.assert_as_the_table();
}

async fn all(first: u64, histories: u64, lossy: bool) {
    println!("seeds from {first}");
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut running = tokio::task::JoinSet::new();
    for seed in first..first + histories {
        let places = std::sync::Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let one =
                tokio::spawn(
                    async move { if lossy { lossy_history(seed).await } else { history(seed).await } },
                );
            (seed, one.await)
        });
    }
    while let Some(done) = running.join_next().await {
        let (seed, ended) = done.unwrap();
        if let Err(error) = ended {
            let which = if lossy { "lossy" } else { "exact" };
            panic!("seed {seed} ({which}): {error}; STREAM_SEED={seed} repeats it");
        }
    }
}

fn seeds(usual: u64) -> (u64, u64) {
    match number("STREAM_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::rng().random_range(0..1 << 40), number("STREAM_HISTORIES").unwrap_or(usual)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c83_any_history_of_a_stream_is_in_the_log_once_and_in_order() {
    let (first, histories) = seeds(HISTORIES);
    all(first, histories, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c83_what_was_lost_is_refused_and_a_repair_brings_it_back() {
    let (first, histories) = seeds(HISTORIES / 5);
    all(first, histories, true).await;
}
