//! The same against DynamoDB Local, AWS's own imitation.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};
use rollcall_model::shards::StreamStart;
use rollcall_model::{Attribute, FaultKind, Item, ItemState};
use rollcall_source_dynamodb::{DynamoSourceConfig, begin_stream, current_stream, preflight};
use rollcall_test_servers::DynamoDb;

use crate::group::{Group, config, key};

const TABLE: &str = "flagsmith_identities";

async fn client(group: &Group) -> Client {
    Client::new(&rollcall_aws::load(&group.config.aws).await.expect("a configuration"))
}

async fn put(client: &Client, key: &str, version: u64) {
    let call = client.put_item().table_name(TABLE).item("composite_key", AttributeValue::S(key.to_owned()));
    call.item("version", AttributeValue::N(version.to_string())).send().await.expect("written");
}

async fn delete(client: &Client, key: &str) {
    let call = client.delete_item().table_name(TABLE);
    call.key("composite_key", AttributeValue::S(key.to_owned())).send().await.expect("deleted");
}

fn version(item: &Item) -> String {
    let Some(Attribute::N(number)) = item.get("version") else { panic!("{item:?}") };
    number.clone()
}

#[tokio::test]
async fn a_real_stream_is_read_in_order_and_goes_on_where_it_was_saved() {
    let server = DynamoDb::start();
    let name = server.create_identities_table(TABLE);
    let config = config(&server.url(), StreamStart::TrimHorizon, 2);
    assert_eq!(preflight(&config).await.expect("findings"), []);
    assert_eq!(current_stream(&config).await.expect("a table"), Some(name));
    let mut group = Group::begin(config).await;
    let client = client(&group).await;
    group.start().await;
    let mut count = 0;
    for round in 0..4u64 {
        for n in 0..25 {
            put(&client, &format!("key-{n}"), round).await;
            count += 1;
        }
        delete(&client, &format!("key-{round}")).await;
        count += 1;
        group.until(|group| group.log.len() >= count).await.expect("all is read");
        group.stop();
        group.start().await;
    }
    assert_eq!(group.log.len(), count, "a record came twice");
    let mut came: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for change in &group.log {
        let state = match &change.state {
            ItemState::Present(item) => Some(version(item)),
            ItemState::Absent => None,
            ItemState::Broken(why) => panic!("{why}"),
        };
        came.entry(key(change)).or_default().push(state);
    }
    for n in 0..25u64 {
        let mut want = Vec::new();
        for round in 0..4u64 {
            want.push(Some(round.to_string()));
            want.extend((round == n).then_some(None));
        }
        assert_eq!(came[&format!("key-{n}")], want, "{n}");
    }
}

/// DynamoDB Local rounds a record's time down to the minute, where AWS says the second: its slack has to be that long.
#[tokio::test]
async fn the_latest_of_a_real_stream_takes_a_slack_of_a_minute() {
    let server = DynamoDb::start();
    server.create_identities_table(TABLE);
    let config = config(&server.url(), StreamStart::Latest, 1);
    let mut group = Group::begin(DynamoSourceConfig { clock_slack_ms: 65_000, ..config }).await;
    let client = client(&group).await;
    put(&client, "a", 1).await;
    group.start().await;
    put(&client, "b", 1).await;
    group.until(|group| group.log.len() == 2).await.expect("they are read");
    for change in &group.log {
        assert_eq!(change.at_us % 60_000_000, 0, "if it says the second now, the slack can be the usual one");
    }
}

#[tokio::test]
async fn a_real_stream_that_is_disabled_is_refused_and_its_next_is_another() {
    let server = DynamoDb::start();
    server.create_identities_table(TABLE);
    let mut group = Group::begin(config(&server.url(), StreamStart::TrimHorizon, 1)).await;
    let client = client(&group).await;
    group.start().await;
    put(&client, "a", 1).await;
    group.until(|group| group.log.len() == 1).await.expect("it is read");
    let off = StreamSpecification::builder().stream_enabled(false).build().expect("a specification");
    client.update_table().table_name(TABLE).stream_specification(off).send().await.expect("disabled");
    let fault = group.until_refused().await;
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert!(fault.what.contains("is disabled"), "{fault}");
    let keys_only = StreamSpecification::builder().stream_enabled(true);
    let keys_only = keys_only.stream_view_type(StreamViewType::KeysOnly).build().expect("a specification");
    client.update_table().table_name(TABLE).stream_specification(keys_only).send().await.expect("enabled");
    let fault = begin_stream(&group.config).await.expect_err("keys are not enough");
    assert!(fault.what.contains("KEYS_ONLY"), "{fault}");
    let missing = DynamoSourceConfig { table: "nothing".to_owned(), ..group.config.clone() };
    let fault = begin_stream(&missing).await.expect_err("no table");
    assert!(fault.what.contains("there is no table nothing"), "{fault}");
}
