//! What a stream no longer holds is refused, with its window and its repair; a raised epoch goes on.

use std::time::Duration;

use rollcall_dynamo_sim::{DynamoSim, SimSettings, ViewType};
use rollcall_model::FaultKind;
use rollcall_model::shards::StreamStart;

use crate::group::{Group, config, item};

const HOUR: Duration = Duration::from_secs(3_600);

async fn read_some(sim: &DynamoSim) -> Group {
    let mut group = Group::begin(config(&sim.url(), StreamStart::Latest, 2)).await;
    group.start().await;
    for n in 0..20 {
        sim.put(item(&format!("key-{n}"), 0)).expect("written");
    }
    group.until(|group| group.log.len() >= 20).await.expect("all are read");
    group
}

#[tokio::test]
async fn a_stream_that_was_trimmed_unread_is_refused_until_the_loss_is_accepted() {
    let sim = DynamoSim::start(SimSettings { seed: 1, shards: 2, ..SimSettings::default() });
    let mut group = read_some(&sim).await;
    group.stop();
    let stopped_us = sim.now_us();
    sim.advance(HOUR);
    for n in 0..20 {
        sim.put(item(&format!("key-{n}"), 1)).expect("written");
    }
    sim.advance(26 * HOUR);
    group.start().await;
    let fault = group.until_refused().await;
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert_eq!(fault.repair.as_deref(), Some("rollcall backfill edge --repair"));
    let arn = sim.stream_arn().expect("a stream");
    for said in [
        "from 2026-01-15T12:00:00Z to 2026-01-15T15:00:00Z are missing",
        "the last record read is",
        &arn,
        "shardId-",
    ] {
        assert!(fault.what.contains(said), "{said}: {fault}");
    }
    let raised = group.raise().await;
    assert!(raised.missing_from_us <= stopped_us, "the window holds all that is missing");
    assert!(raised.stream.began_us >= sim.now_us() - 2_000_000);
    assert_eq!(group.stream.epoch, 2);
    let before = group.log.len();
    group.start().await;
    for n in 0..20 {
        sim.put(item(&format!("key-{n}"), 2)).expect("written");
    }
    group.until(|group| group.log.len() >= before + 20).await.expect("it goes on");
    assert!(group.saved.values().all(|shards| shards.epoch == 2));
    // It is accepted for good.
    group.stop();
    group.start().await;
    sim.put(item("key-0", 3)).expect("written");
    group.until(|group| group.log.len() > before + 20).await.expect("it goes on");
}

#[tokio::test]
async fn a_shard_that_vanished_unread_is_refused() {
    let sim = DynamoSim::start(SimSettings { seed: 2, shards: 2, roll: None, ..SimSettings::default() });
    let mut group = read_some(&sim).await;
    group.stop();
    for n in 0..20 {
        sim.put(item(&format!("key-{n}"), 1)).expect("written");
    }
    let shard = sim.open_shards().into_iter().next().expect("a shard");
    sim.split(&shard);
    assert!(sim.vanish(&shard));
    group.start().await;
    let fault = group.until_refused().await;
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.what.contains(&shard) && fault.what.contains("vanished"), "{fault}");
    assert_eq!(fault.repair.as_deref(), Some("rollcall backfill edge --repair"));
}

#[tokio::test]
async fn a_shard_that_came_and_went_while_nobody_looked_is_found_by_its_child() {
    let sim = DynamoSim::start(SimSettings { seed: 3, shards: 1, roll: None, ..SimSettings::default() });
    let mut group = read_some(&sim).await;
    let root = sim.open_shards().remove(0);
    let child = sim.roll(&root).expect("a child");
    // The root is read to its end, and its child not seen.
    group
        .until(|group| group.saved.values().any(|shards| shards.shards.contains_key(&child)))
        .await
        .expect("seen");
    group.stop();
    for shards in group.saved.values_mut() {
        shards.shards.remove(&child);
    }
    sim.put(item("key-0", 1)).expect("written");
    sim.roll(&child).expect("a grandchild");
    assert!(sim.vanish(&child));
    group.start().await;
    let fault = group.until_refused().await;
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(
        fault.what.contains(&format!("came from the shard {child}, which came and went unread")),
        "{fault}"
    );
}

#[tokio::test]
async fn a_disabled_stream_is_read_to_its_end_and_then_refused() {
    let sim = DynamoSim::start(SimSettings { seed: 4, shards: 2, ..SimSettings::default() });
    let mut group = read_some(&sim).await;
    for n in 0..20 {
        sim.put(item(&format!("key-{n}"), 1)).expect("written");
    }
    assert!(sim.disable_stream());
    let fault = group.until_refused().await;
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    let enable = "aws dynamodb update-table --region eu-west-2 --table-name flagsmith_identities \
                  --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES";
    assert!(fault.what.contains("is disabled") && fault.what.contains(enable), "{fault}");
    // The other reader finishes what is its own.
    while group.log.len() < 40 {
        if group.turn().await.is_err() {
            group.stop();
            group.start().await;
        }
    }
    group.expect_all_of(&sim, 0);
    // Enabled again it is another stream.
    sim.put(item("key-0", 2)).expect("written");
    sim.advance(HOUR);
    assert!(sim.enable_stream(ViewType::NewAndOldImages));
    group.stop();
    group.start().await;
    let fault = group.until_refused().await;
    assert!(fault.what.contains("has another stream"), "{fault}");
    let raised = group.raise().await;
    assert_eq!(Some(raised.stream.name), sim.stream_arn());
    let before = group.log.len();
    group.start().await;
    sim.put(item("key-1", 2)).expect("written");
    group.until(|group| group.log.len() > before).await.expect("the new stream is read");
}
