//! Any history of commits, kills, faults and compactions ends in files that tile and hold every record once.
//!
//! `LAKE_HISTORIES=1000` runs more histories than the usual ones, `LAKE_SEED=n` repeats one.

mod world;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_kit::faulty_log::Step;
use rollcall_model::FaultKind;
use serde_json::json;

use super::*;
use crate::wiring::LakeBounds;
use world::{NAME, PARTITIONS, PATIENCE, World};

const HISTORIES: u64 = 300;
/// Histories that run at one time: they mostly wait.
const AT_ONCE: usize = 24;
const SHORT: Duration = Duration::from_millis(5);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Writes and runs in turn; each run ends by a fault at some step, by a kill while it waits, or by a commit that fails.
async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(&mut random);
    world.begin().await;
    for _ in 0..random.random_range(3..30) {
        for _ in 0..random.random_range(0..8) {
            world.write(&mut random).await;
        }
        if random.random_bool(0.3) {
            world.log.compact_now();
            world.log.retain_now(u64::MAX);
        }
        world.store.burn_after(random.random_range(0..12));
        if random.random_bool(0.3) {
            let steps = [Step::FailBefore, Step::LoseAnswer, Step::Fence];
            for _ in 0..random.random_range(0..4) {
                world.faults.then(Step::Pass);
            }
            world.faults.then(steps[random.random_range(0..3)]);
        }
        world.run(Duration::from_millis(random.random_range(0..40))).await;
    }
    world.store.burn_after(u64::MAX);
    while world.faults.steps_left() > 0 {
        drop(world.rest().await);
    }
    at_rest(&mut world).await;
}

async fn at_rest(world: &mut World) {
    if let Some(fault) = world.rest().await {
        panic!("{fault}");
    }
    world.assert_exact().await;
}

async fn refused(world: &mut World) -> Fault {
    // Not until it rests: it rested before.
    let fault = world.run(PATIENCE).await.unwrap_or_else(|| panic!("it goes on"));
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    fault
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_ends_in_files_that_tile_and_hold_every_record_once() {
    let (first, histories) = match number("LAKE_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::rng().random_range(0..1 << 40), number("LAKE_HISTORIES").unwrap_or(HISTORIES)),
    };
    println!("seeds from {first}");
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut running = tokio::task::JoinSet::new();
    for seed in first..first + histories {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            (seed, tokio::spawn(history(seed)).await)
        });
    }
    while let Some(done) = running.join_next().await {
        let (seed, ended) = done.unwrap_or_else(|e| panic!("{e}"));
        assert!(ended.is_ok(), "LAKE_SEED={seed} repeats it");
    }
}

/// A world with some commits listed.
async fn listed(commits: u64) -> World {
    let mut random = StdRng::seed_from_u64(7);
    let mut world = World::new(&mut random);
    world.begin().await;
    for _ in 0..commits {
        world.write(&mut random).await;
    }
    at_rest(&mut world).await;
    world
}

async fn state(world: &World) -> serde_json::Value {
    let mut tasks = world.log.tasks().await.unwrap_or_else(|e| panic!("{e}"));
    tasks.remove(&sink_task::name(NAME)).unwrap_or_default().state
}

#[tokio::test]
async fn a_lake_that_lacks_what_it_has_listed_is_refused_until_it_is_rebuilt() {
    let mut world = listed(20).await;
    world.store.lose_newest();
    let fault = refused(&mut world).await;
    assert_eq!(
        fault.repair.as_deref(),
        Some("put back what is missing, or begin the lake anew: rollcall rebuild lake")
    );
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    sink_task::SinkTask::ask_reset(&log, NAME, None).await.unwrap_or_else(|e| panic!("{e}"));
    at_rest(&mut world).await;
    assert_eq!(world.store.resets(), 1);
    assert_eq!(state(&world).await["reset"], json!(false));
}

#[tokio::test]
async fn a_file_that_somebody_else_listed_in_part_is_refused() {
    let mut random = StdRng::seed_from_u64(3);
    let mut world = World::new(&mut random);
    world.bounds = LakeBounds { age: 20 * SHORT, file_bytes: u64::MAX, buffer_bytes: u64::MAX };
    world.begin().await;
    for _ in 0..20 {
        world.write(&mut random).await;
    }
    // Planned and no more: the first call of the store after `prepare` fails.
    world.store.burn_after(1);
    assert!(world.rest().await.is_some());
    let pending: Vec<Cut> =
        serde_json::from_value(state(&world).await["pending"].clone()).unwrap_or_default();
    let cut = pending.iter().find(|cut| cut.last > cut.first).unwrap_or_else(|| panic!("{pending:?}"));
    world.store.burn_after(u64::MAX);
    world.store.list_as_another(&Cut { last: cut.first, ..*cut });
    let fault = refused(&mut world).await;
    assert!(fault.what.contains("it has another writer"), "{fault}");
}

#[tokio::test]
async fn a_lake_whose_progress_is_gone_goes_on_after_what_is_listed_unless_the_log_has_lost_what_follows() {
    let mut world = listed(20).await;
    let forget = async |world: &World| {
        world.log.forget(&sink_task::name(NAME)).await.unwrap_or_else(|e| panic!("{e}"));
    };
    forget(&world).await;
    let mut random = StdRng::seed_from_u64(8);
    for _ in 0..20 {
        world.write(&mut random).await;
    }
    at_rest(&mut world).await;
    forget(&world).await;
    for _ in 0..20 {
        world.write(&mut random).await;
    }
    world.log.retain_now(u64::MAX);
    let fault = refused(&mut world).await;
    assert!(fault.what.contains("past its retention"), "{fault}");
}

/// What comes later is noted later, by whoever runs the lake then.
#[tokio::test]
async fn what_is_noted_of_a_source_goes_on() {
    let mut world = listed(60).await;
    let mut random = StdRng::seed_from_u64(9);
    for _ in 0..60 {
        world.write(&mut random).await;
    }
    let before = world.store.noted_us();
    let mut runs = 0;
    while world.store.noted_us().last() <= before.last().max(Some(&0)) {
        assert!(world.run(20 * SHORT).await.is_none());
        world.write(&mut random).await;
        runs += 1;
        assert!(runs < 300, "{before:?}, then {:?}", world.store.noted_us());
    }
    at_rest(&mut world).await;
}

/// The log keeps what a dead store can't take, and nothing more is read meanwhile.
#[tokio::test]
async fn while_the_store_is_silent_nothing_more_is_read() {
    let mut random = StdRng::seed_from_u64(5);
    let mut world = World::new(&mut random);
    world.begin().await;
    world.store.fall_silent(true);
    for _ in 0..200 {
        world.write(&mut random).await;
    }
    assert!(world.run(100 * SHORT).await.is_none());
    let taken = world.store.taken();
    assert!(taken > 0 && taken < world.written().len() as u64, "{taken} of {}", world.written().len());
    world.store.fall_silent(false);
    at_rest(&mut world).await;
}

#[test]
fn what_reads_progress_of_other_sinks_reads_a_lakes() {
    let cut = Cut {
        topic: Topic::Identities,
        partition: Partition(PARTITIONS - 1),
        first: Seq(1),
        last: Seq(2),
        until: Place::default(),
    };
    let covered = vec![(cut.topic, cut.partition, Seq(9))];
    let state = LakeState { reset: false, covered, pending: vec![cut] };
    let text = serde_json::to_value(&state).unwrap_or_default();
    assert_eq!(read_state(NAME, text.clone()).unwrap_or_default(), state);
    assert_eq!(sink_task::read_state(text).unwrap_or_default(), sink_task::SinkState::default());
}
