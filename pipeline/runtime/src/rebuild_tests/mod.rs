//! Rebuilds from an archive on doubles: killed at every step and started again, with rosters writing all the while, what
//! readers see at the end is what is.
//!
//! `REBUILD_SEED=n` repeats a history.
#![allow(clippy::unwrap_used)]

mod doubles;
mod world;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rollcall_model::archive::Covered;
use rollcall_model::{LogId, Partition, Place, Seq, Topic};
use rollcall_roster::{Store, Stored};

use crate::roster_store::{PartitionStore, RosterStores};
use crate::sink_task::SinkTask;
use crate::store_rebuild::Rebuilding;
use doubles::lock;
use world::{FOR_EVER, LAKE, PARTITIONS, World, bogus, ok};

fn seed() -> u64 {
    let given = std::env::var("REBUILD_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1 << 40));
    println!("REBUILD_SEED={seed} repeats this");
    seed
}

/// A sink that is live; a lake that is some commits behind; a log that was tidied; then more.
async fn live_world(sink: &str, seed: u64) -> World {
    let mut world = World::new(seed);
    world.commit(90).await;
    world.start(sink);
    world.at_rest(sink).await;
    world.commit(10).await;
    world.archive_now();
    let behind = world.random.random_range(0..15);
    world.commit(behind).await;
    world.at_rest(sink).await;
    world.assert_shown(sink, "before the rebuild");
    world.kill(sink);
    world.tidy();
    world.spoil();
    world
}

/// Kills a rebuild at one step after the other, until one comes to its end before its step is met.
async fn killed_everywhere(sink: &str, from: Option<&str>) {
    let seed = seed();
    for step in 0.. {
        let what = format!("{sink}, killed at step {step}");
        let mut world = live_world(sink, seed).await;
        ok(SinkTask::ask_reset(&world.log, sink, from.map(str::to_owned)).await);
        world.steps.stop_at(Some(step));
        world.start(sink);
        let met = Arc::clone(&world.steps.met);
        let is_through = tokio::select! {
            () = met.notified() => false,
            () = world.at_rest(sink) => true,
        };
        world.steps.stop_at(None);
        world.kill(sink);
        // Rosters don't wait for sinks, and neither does the tidying.
        world.commit(10).await;
        world.tidy();
        world.start(sink);
        world.at_rest(sink).await;
        world.assert_shown(sink, &what);
        world.commit(10).await;
        world.at_rest(sink).await;
        world.assert_shown(sink, &format!("{what}, and live again"));
        world.kill(sink);
        if is_through {
            assert!(step > 10, "a rebuild has more steps than {step}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_rebuilt_from_a_lake_is_what_it_was_wherever_it_is_killed() {
    killed_everywhere("mirror", Some(LAKE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_rebuilt_from_a_lake_are_what_they_were_wherever_they_are_killed() {
    killed_everywhere("counts", Some(LAKE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_rebuilt_from_the_log_is_what_it_was_wherever_it_is_killed() {
    killed_everywhere("mirror", None).await;
}

/// What is refused leaves the sink as it was, and says why.
async fn refused(change: impl FnOnce(&mut World), text: &str) {
    let mut world = live_world("mirror", seed()).await;
    change(&mut world);
    let resets = lock(&world.kept).resets;
    ok(SinkTask::ask_reset(&world.log, "mirror", Some(LAKE.to_owned())).await);
    world.start("mirror");
    loop {
        if let Some(error) = world.error("mirror") {
            assert!(error.contains(text), "{error}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(lock(&world.kept).resets, resets, "nothing was emptied");
    world.kill("mirror");
    // The way out that it names.
    ok(SinkTask::ask_reset(&world.log, "mirror", None).await);
    world.start("mirror");
    world.at_rest("mirror").await;
    world.assert_shown("mirror", "rebuilt from the log");
}

fn covered(world: &World, change: impl Fn(&mut Covered)) {
    let mut archive = lock(&world.archive);
    archive.as_mut().unwrap().holds.iter_mut().for_each(|held| change(&mut held.covered));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_of_another_log_is_refused() {
    let other = |world: &mut World| {
        lock(&world.archive).as_mut().unwrap().log_id = LogId("other".to_owned());
    };
    refused(other, "lake 'lake' is of log other; this is log log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_is_ahead_of_the_log_is_refused() {
    let ahead = |world: &mut World| covered(world, |covered| covered.until.offset += 1_000);
    refused(ahead, "which this log doesn't have").await;
    // The log is a copy by now, and the lake of one that went on.
    let next = |world: &mut World| covered(world, |covered| covered.until.epoch += 1);
    refused(next, "which this log doesn't have").await;
}

/// The log's times are long past: what the lake doesn't hold is older than any tombstone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_is_too_far_behind_is_refused() {
    let late = |world: &mut World| {
        world.tombstone_retention = Duration::from_secs(60);
        covered(world, |covered| covered.until.offset -= 1);
    };
    refused(late, "what follows is older than tombstones are kept").await;
}

/// One that holds everything is as good as it was, however old that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_that_holds_everything_is_never_too_old() {
    let mut world = live_world("mirror", seed()).await;
    world.tombstone_retention = Duration::from_secs(60);
    world.archive_now();
    ok(SinkTask::ask_reset(&world.log, "mirror", Some(LAKE.to_owned())).await);
    world.start("mirror");
    world.at_rest("mirror").await;
    world.assert_shown("mirror", "from an old lake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_gone_is_waited_for_and_the_rest_is_left_alone() {
    let gone = |world: &mut World| *lock(&world.archive) = None;
    refused(gone, "no lake").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_shows_how_far_it_is_and_then_nothing() {
    let world = live_world("mirror", seed()).await;
    ok(SinkTask::ask_reset(&world.log, "mirror", Some(LAKE.to_owned())).await);
    // reset ×2, begin ×2, three pages, a write.
    world.steps.stop_at(Some(12));
    world.start("mirror");
    world.steps.met.notified().await;
    let shown = world.fact("mirror", "rebuild").unwrap();
    let number = |name: &str| shown[name].as_u64().unwrap();
    assert!(shown["from"] == LAKE && number("read") < number("total"), "{shown}");
    world.steps.stop_at(None);
    world.kill("mirror");
    world.start("mirror");
    world.at_rest("mirror").await;
    assert_eq!(world.fact("mirror", "rebuild"), Some(serde_json::Value::Null));
    assert_eq!(world.fact("mirror", "bootstrapping"), Some(false.into()));
}

/// Everything that a store holds but tombstones, which the log may have let go.
fn stored(store: &PartitionStore) -> (Vec<Stored>, Vec<String>) {
    let rows = store.scan(None, 1_000).unwrap_or_else(|fault| panic!("{fault}"));
    let living = rows.into_iter().map(|(_, stored)| stored).filter(|stored| stored.image().is_some());
    (living.collect(), vec![format!("{:?}", ok(store.counts()))])
}

async fn opened(world: &World, stores: &RosterStores, partition: Partition) -> PartitionStore {
    let seq = world.seq(partition);
    ok(PartitionStore::open(stores.clone(), &world.log, partition, seq, FOR_EVER, |_| {}).await).0
}

async fn carry_out(world: &World, stores: &RosterStores, partition: Partition) {
    let archives = world.archives();
    let with = Rebuilding {
        log: &*world.log,
        archives: &archives,
        seq: world.seq(partition),
        tombstone_retention: FOR_EVER,
    };
    ok(stores.rebuild_if_ordered(partition, &with, |_| {}).await);
}

/// A store is rebuilt, killed at every step of that.
async fn store_killed_everywhere(from: Option<&str>) {
    let seed = seed();
    // A step like the one before it is left out: each costs files of two stores.
    for step in (0..6).chain((6..).step_by(9)) {
        let mut world = live_world("mirror", seed).await;
        let folder = tempfile::tempdir().unwrap();
        let stores = ok(RosterStores::open(folder.path()));
        for partition in (0..PARTITIONS).map(Partition) {
            // Somebody is in it who never was.
            let store = opened(&world, &stores, partition).await;
            ok(store.archived([bogus()])).commit().unwrap();
            ok(stores.order_rebuild(partition, from.map(str::to_owned)));
        }
        world.steps.stop_at(Some(step));
        let met = Arc::clone(&world.steps.met);
        let is_through = tokio::select! {
            () = met.notified() => false,
            () = async {
                for partition in (0..PARTITIONS).map(Partition) {
                    carry_out(&world, &stores, partition).await;
                }
            } => true,
        };
        world.steps.stop_at(None);
        world.commit(5).await;
        world.tidy();
        let elsewhere = tempfile::tempdir().unwrap();
        let fresh = ok(RosterStores::open(elsewhere.path()));
        for partition in (0..PARTITIONS).map(Partition) {
            carry_out(&world, &stores, partition).await;
            carry_out(&world, &stores, partition).await;
            let (rebuilt, fresh) =
                (opened(&world, &stores, partition).await, opened(&world, &fresh, partition).await);
            assert_eq!(stored(&rebuilt), stored(&fresh), "partition {partition}, killed at step {step}");
        }
        if is_through {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_rebuilt_from_a_lake_is_what_it_was_wherever_it_is_killed() {
    store_killed_everywhere(Some(LAKE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_rebuilt_from_the_log_is_what_it_was() {
    store_killed_everywhere(None).await;
}

/// The three topics need not be covered up to the same commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_takes_each_topic_from_where_the_lake_ends_in_it() {
    let mut world = live_world("mirror", seed()).await;
    let early = lock(&world.archive).clone().unwrap();
    world.commit(20).await;
    world.archive_now();
    {
        // Memberships as they were, the others as they are.
        let mut archive = lock(&world.archive);
        let archive = archive.as_mut().unwrap();
        for (held, old) in archive.holds.iter_mut().zip(&early.holds) {
            if held.topic == Topic::Memberships {
                *held = *old;
                let at = (held.topic, held.partition);
                archive.files.insert(at, early.files[&at].clone());
            }
        }
    }
    world.commit(5).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [stores, fresh] = folders.each_ref().map(|folder| ok(RosterStores::open(folder.path())));
    for partition in (0..PARTITIONS).map(Partition) {
        ok(stores.order_rebuild(partition, Some(LAKE.to_owned())));
        carry_out(&world, &stores, partition).await;
        let (rebuilt, fresh) =
            (opened(&world, &stores, partition).await, opened(&world, &fresh, partition).await);
        assert_eq!(stored(&rebuilt), stored(&fresh));
    }
}

/// A place of a log that was copied since says nothing of ours, but its commits do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_covered_is_read_from_the_start() {
    let world = live_world("mirror", seed()).await;
    covered(&world, |covered| *covered = Covered { seq: Seq(0), until: Place::default() });
    {
        let mut archive = lock(&world.archive);
        let archive = archive.as_mut().unwrap();
        archive.holds.iter_mut().for_each(|held| held.files = 0);
    }
    ok(SinkTask::ask_reset(&world.log, "mirror", Some(LAKE.to_owned())).await);
    world.start("mirror");
    world.at_rest("mirror").await;
    world.assert_shown("mirror", "from an empty lake");
}
