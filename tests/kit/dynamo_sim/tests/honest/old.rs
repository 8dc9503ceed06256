//! What is too old: the simulator beside ministack, whose retention can be had within seconds. DynamoDB Local forgets
//! nothing.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rollcall_dynamo_sim::{DynamoSim, SimSettings};
use rollcall_test_servers::{Ministack, MinistackSettings};

use crate::clients::Clients;

const TABLE: &str = "flagsmith_identities";

/// What a server answers about a record that it no longer has, and by an iterator that is too old.
#[derive(PartialEq, Debug)]
struct Answers {
    iterator_too_old: String,
    at_the_trimmed: String,
    after_the_trimmed: String,
    from_the_horizon: usize,
}

/// Writes a record, lets `grow_old` make it and its iterators too old, and asks.
async fn ask(clients: &Clients, grow_old: impl AsyncFn()) -> Answers {
    let described = clients.tables.describe_table().table_name(TABLE).send().await.unwrap();
    let arn = described.table.unwrap().latest_stream_arn.unwrap();
    let described = clients.streams.describe_stream().stream_arn(&arn).send().await.unwrap();
    let shard = described.stream_description.unwrap().shards.unwrap().remove(0).shard_id.unwrap();
    let put = clients.tables.put_item().table_name(TABLE);
    put.item("composite_key", AttributeValue::S("a".to_owned())).send().await.unwrap();
    let start = |kind: ShardIteratorType| {
        clients.streams.get_shard_iterator().stream_arn(&arn).shard_id(&shard).shard_iterator_type(kind)
    };
    let read = |iterator: Option<String>| clients.streams.get_records().set_shard_iterator(iterator).send();
    let early = start(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator;
    let records = read(early.clone()).await.unwrap().records.unwrap();
    let sequence = records[0].dynamodb().unwrap().sequence_number().unwrap().to_owned();
    grow_old().await;
    let horizon = start(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator;
    let mut refusals = Vec::new();
    for kind in [ShardIteratorType::AtSequenceNumber, ShardIteratorType::AfterSequenceNumber] {
        refusals.push(match start(kind).sequence_number(&sequence).send().await {
            Ok(answer) => match read(answer.shard_iterator).await {
                Ok(answer) => format!("{} records", answer.records().len()),
                Err(refused) => refused.code().unwrap().to_owned(),
            },
            Err(refused) => refused.code().unwrap().to_owned(),
        });
    }
    Answers {
        iterator_too_old: read(early).await.unwrap_err().code().unwrap().to_owned(),
        from_the_horizon: read(horizon).await.unwrap().records().len(),
        after_the_trimmed: refusals.remove(1),
        at_the_trimmed: refusals.remove(0),
    }
}

#[tokio::test]
async fn what_is_too_old_is_refused_alike() {
    let ministack = Ministack::start(MinistackSettings { retention_s: 6.0, iterator_life_s: 6.0 });
    let _arn = ministack.create_identities_table(TABLE);
    let theirs = ask(&Clients::new(&ministack.url()), async || {
        tokio::time::sleep(Duration::from_secs(8)).await;
    })
    .await;
    let sim = DynamoSim::start(SimSettings { shards: 1, roll: None, ..SimSettings::default() });
    let ours = ask(&Clients::new(&sim.url()), async || sim.advance(Duration::from_secs(25 * 3600))).await;
    assert_eq!(ours, theirs);
}
