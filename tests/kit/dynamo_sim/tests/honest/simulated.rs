//! What only the simulator has: shard trees over time, faults, virtual clocks; as the SDK meets them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::{Record, Shard, ShardIteratorType};
use rollcall_dynamo_sim::{Action, DynamoSim, ErrorCode, Faults, SequenceNumber, SimSettings, ViewType};
use rollcall_model::{Attribute, Item};

use crate::clients::Clients;

fn item(key: &str, n: u32) -> Item {
    Item::from([
        ("composite_key".to_owned(), Attribute::S(key.to_owned())),
        ("n".to_owned(), Attribute::N(n.to_string())),
    ])
}

/// All shards that are listed, by pages of `limit`.
async fn shards(clients: &Clients, arn: &str, limit: i32) -> Vec<Shard> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = clients.streams.describe_stream().stream_arn(arn).limit(limit);
        let page = page.set_exclusive_start_shard_id(after).send().await.unwrap();
        let description = page.stream_description.unwrap();
        all.extend(description.shards.unwrap());
        after = description.last_evaluated_shard_id;
        if after.is_none() {
            return all;
        }
    }
}

async fn iterator(clients: &Clients, arn: &str, shard: &str, kind: ShardIteratorType) -> String {
    let answer =
        clients.streams.get_shard_iterator().stream_arn(arn).shard_id(shard).shard_iterator_type(kind);
    answer.send().await.unwrap().shard_iterator.unwrap()
}

/// All records of a shard, until its end or until nothing comes.
async fn records(clients: &Clients, arn: &str, shard: &str) -> Vec<Record> {
    let mut next = Some(iterator(clients, arn, shard, ShardIteratorType::TrimHorizon).await);
    let mut all = Vec::new();
    while let Some(iterator) = next {
        let answer = clients.streams.get_records().shard_iterator(iterator).send().await.unwrap();
        let some = answer.records.unwrap();
        let none_came = some.is_empty();
        all.extend(some);
        next = answer.next_shard_iterator.filter(|_| !none_came);
    }
    all
}

#[tokio::test]
async fn a_key_is_followed_through_splits_and_rolls() {
    let sim = DynamoSim::start(SimSettings { seed: 3, shards: 1, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    for n in 0..30 {
        sim.put(item(&format!("key_{}", n % 5), n)).unwrap();
        if n % 7 == 6 {
            let open = sim.open_shards();
            sim.split(&open[0]).unwrap();
            let last = sim.open_shards().pop().unwrap();
            sim.roll(&last).unwrap();
        }
    }
    let arn = sim.stream_arn().unwrap();
    let listed = shards(&clients, &arn, 3).await;
    assert_eq!(listed.len(), sim.shards().len());
    let parents: HashMap<String, Option<String>> =
        listed.iter().map(|shard| (shard.shard_id.clone().unwrap(), shard.parent_shard_id.clone())).collect();
    let mut by_key: BTreeMap<String, Vec<(SequenceNumber, String)>> = BTreeMap::new();
    for shard in parents.keys() {
        for record in records(&clients, &arn, shard).await {
            let stream = record.dynamodb.unwrap();
            let key = stream.keys.unwrap()["composite_key"].as_s().unwrap().clone();
            let sequence = stream.sequence_number.unwrap().parse().unwrap();
            by_key.entry(key).or_default().push((sequence, shard.clone()));
        }
    }
    assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 30);
    for entries in by_key.values_mut() {
        entries.sort();
        // Along the numbers, each shard is the one before or descends from it.
        for pair in entries.windows(2) {
            let mut shard = Some(&pair[1].1);
            while shard.is_some_and(|shard| *shard != pair[0].1) {
                shard = parents[shard.unwrap()].as_ref();
            }
            assert!(shard.is_some(), "{pair:?}");
        }
    }
    assert_eq!(sim.records_read(), 30);
}
