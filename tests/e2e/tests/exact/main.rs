//! The whole of it against the independent oracle, on real servers, while it is killed again and again.
//!
//! One seed drives population, load and kills. `CRASH_SEEDS=n` runs n fresh seeds in a row, `CRASH_SEED=s` repeats one;
//! the seed is printed first.
#![allow(clippy::unwrap_used)]

mod cluster;
mod edge;
mod scene;

use cluster::{Cluster, FAULTS, Fault};
use edge::EdgeSetting;
use rollcall_e2e::Lake;
use rollcall_test_servers::PgVersion;
use scene::{Scene, Setting};

/// Items in DynamoDB at the start.
const ITEMS: usize = 100_000;
/// The same on Kafka: what is looked for there is who reads which shard.
const ITEMS_ON_KAFKA: usize = 5_000;

/// One scene at a time: each has servers, workers and load enough for two cores, and what it waits for is bounded.
static STAGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("CRASH_SEED") {
        return vec![seed.parse().expect("CRASH_SEED is a number")];
    }
    let count = std::env::var("CRASH_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    (0..count).map(|_| rand::random()).collect()
}

/// C01–C03, C08: at least 20 kills at random moments and at every failpoint, under load; then Postgres, ClickHouse,
/// the topics, the files of the lake and the reference engine say the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c08_killed_twenty_times_under_load_it_ends_as_the_oracle_says() {
    let _stage = STAGE.lock().await;
    for seed in seeds() {
        println!("CRASH_SEED={seed}");
        let lake = Some(Lake::start());
        let setting = Setting { version: PgVersion::V15, seed, cluster: None, edge: None, lake };
        let mut scene = Scene::set(setting).await.unwrap();
        scene.kill_under_load(15).await.unwrap();
        scene.compact_lake().await.unwrap();
        scene.kill_under_load(6).await.unwrap();
        scene.come_to_rest().await.unwrap();
        scene.assert_exact().await.unwrap();
    }
}

/// The same without kills on Postgres 18: nothing there is read differently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_18_ends_as_the_oracle_says() {
    let _stage = STAGE.lock().await;
    let mut scene = Scene::start(PgVersion::V18, 18).await.unwrap();
    scene.kill_under_load(1).await.unwrap();
    scene.come_to_rest().await.unwrap();
    scene.assert_exact().await.unwrap();
}

/// The same with the log on Kafka and three workers: killed, stopped and let go on as zombies, cut off from the broker,
/// the broker itself restarted. Then everything downstream is filled from the lake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c08_three_workers_on_kafka_end_as_the_oracle_says() {
    let _stage = STAGE.lock().await;
    for seed in seeds() {
        println!("CRASH_SEED={seed}");
        let mut scene = Scene::set(Setting {
            version: PgVersion::V15,
            seed,
            cluster: Some(Cluster::start(3)),
            edge: None,
            lake: Some(Lake::start()),
        })
        .await
        .unwrap();
        scene.suffer(&FAULTS).await.unwrap();
        scene.come_to_rest().await.unwrap();
        scene.assert_exact().await.unwrap();
        scene.rebuild_from_lake().await.unwrap();
        scene.come_to_rest().await.unwrap();
        scene.assert_exact().await.unwrap();
    }
}

/// C83: identities in Postgres and at the edge, written, scanned and streamed at once, the worker killed at every failpoint
/// and between; a project moves from one to the other meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c83_core_and_edge_end_as_the_oracle_says() {
    let _stage = STAGE.lock().await;
    for seed in seeds() {
        println!("CRASH_SEED={seed}");
        let edge = Some(EdgeSetting::on_dynamodb_local(ITEMS));
        let setting = Setting { version: PgVersion::V15, seed, cluster: None, edge, lake: None };
        let mut scene = Scene::set(setting).await.unwrap();
        scene.kill_under_load(10).await.unwrap();
        scene.migrate().await.unwrap();
        scene.kill_under_load(11).await.unwrap();
        scene.come_to_rest().await.unwrap();
        scene.assert_exact().await.unwrap();
    }
}

/// C83 with three workers on Kafka, who take the readers of the stream over from each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c83_three_workers_share_the_shards_and_end_as_the_oracle_says() {
    let _stage = STAGE.lock().await;
    for seed in seeds() {
        println!("CRASH_SEED={seed}");
        let (cluster, edge) = (Some(Cluster::start(3)), Some(EdgeSetting::on_ministack(ITEMS_ON_KAFKA)));
        let setting = Setting { version: PgVersion::V15, seed, cluster, edge, lake: None };
        let mut scene = Scene::set(setting).await.unwrap();
        scene.suffer(&[Fault::Kill, Fault::Zombie]).await.unwrap();
        scene.migrate().await.unwrap();
        scene.suffer(&[Fault::Partition, Fault::Crash]).await.unwrap();
        scene.come_to_rest().await.unwrap();
        scene.assert_exact().await.unwrap();
    }
}
