//! What only the simulator has: shard trees over time, faults, virtual clocks; as the SDK meets them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::AttributeValue;
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

/// The name of a refusal, as the SDK says it.
fn code<T: Debug, E: ProvideErrorMetadata + Debug>(answer: Result<T, E>) -> String {
    answer.unwrap_err().code().expect("a name of a refusal").to_owned()
}

#[tokio::test]
async fn an_iterator_lives_for_a_quarter_of_an_hour_of_virtual_time() {
    let sim = DynamoSim::start(SimSettings { shards: 1, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    let arn = sim.stream_arn().unwrap();
    let shard = sim.open_shards().remove(0);
    sim.put(item("a", 1)).unwrap();
    let old = iterator(&clients, &arn, &shard, ShardIteratorType::TrimHorizon).await;
    let read = || clients.streams.get_records().shard_iterator(&old).send();
    sim.advance(Duration::from_secs(15 * 60));
    assert_eq!(read().await.unwrap().records().len(), 1);
    sim.advance(Duration::from_millis(1));
    assert_eq!(code(read().await), "ExpiredIteratorException");
}

#[tokio::test]
async fn a_shard_that_vanished_is_not_found_and_its_iterators_lead_nowhere() {
    let sim = DynamoSim::start(SimSettings { shards: 1, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    let arn = sim.stream_arn().unwrap();
    let shard = sim.open_shards().remove(0);
    sim.put(item("a", 1)).unwrap();
    let held = iterator(&clients, &arn, &shard, ShardIteratorType::TrimHorizon).await;
    assert!(!sim.vanish(&shard), "an open shard doesn't vanish");
    sim.roll(&shard).unwrap();
    assert!(sim.vanish(&shard));
    let read = clients.streams.get_records().shard_iterator(held).send().await;
    assert_eq!(code(read), "TrimmedDataAccessException");
    let again = clients.streams.get_shard_iterator().stream_arn(&arn).shard_id(&shard);
    let again = again.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    assert_eq!(code(again), "ResourceNotFoundException");
    let left = shards(&clients, &arn, 100).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].parent_shard_id.as_deref(), Some(shard.as_str()));
}

#[tokio::test]
async fn faults_come_as_the_service_sends_them() {
    let sim = DynamoSim::start(SimSettings { seed: 9, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    let arn = sim.stream_arn().unwrap();
    let describe = || clients.streams.describe_stream().stream_arn(&arn).send();
    let scan = || clients.tables.scan().table_name("flagsmith_identities").send();

    sim.set_faults(Faults { throttled_percent: 100, ..Faults::default() });
    assert_eq!(code(describe().await), "ThrottlingException");
    assert_eq!(code(scan().await), "ProvisionedThroughputExceededException");
    sim.set_faults(Faults { internal_error_percent: 100, ..Faults::default() });
    let failed = scan().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert!(failed.as_service_error().unwrap().is_internal_server_error());
    sim.set_faults(Faults { denied: BTreeSet::from([Action::Scan]), ..Faults::default() });
    let denied = scan().await;
    assert!(denied.as_ref().unwrap_err().message().unwrap().contains("dynamodb:Scan"));
    assert_eq!(code(denied), "AccessDeniedException");
    assert!(describe().await.is_ok());

    sim.set_faults(Faults { lost_answer_percent: 100, ..Faults::default() });
    let put = clients.tables.put_item().table_name("flagsmith_identities");
    let put = put.item("composite_key", AttributeValue::S("lost".to_owned())).send().await;
    assert!(put.unwrap_err().raw_response().is_none(), "no answer came");
    assert!(sim.item("lost").is_some(), "and the work was done");

    sim.set_faults(Faults::default());
    sim.refuse_next(Action::Scan, ErrorCode::LimitExceeded);
    assert_eq!(code(scan().await), "LimitExceededException");
    assert!(scan().await.is_ok());
    assert_eq!(sim.counts().of(Action::Scan), 5);
}

#[tokio::test]
async fn only_the_right_key_is_let_in() {
    let sim =
        DynamoSim::start(SimSettings { access_key_id: Some("right".to_owned()), ..SimSettings::default() });
    let describe = |clients: Clients| async move {
        clients.tables.describe_table().table_name("flagsmith_identities").send().await
    };
    assert!(describe(Clients::with_key(&sim.url(), "right")).await.is_ok());
    assert_eq!(code(describe(Clients::with_key(&sim.url(), "wrong")).await), "UnrecognizedClientException");
}

#[tokio::test]
async fn the_date_of_answers_is_virtual() {
    let sim = DynamoSim::start(SimSettings::default());
    let clients = Clients::new(&sim.url());
    let date = || async {
        let refused = clients.tables.scan().table_name("none").send().await.unwrap_err();
        refused.raw_response().unwrap().headers().get("date").unwrap().to_owned()
    };
    assert_eq!(date().await, "Thu, 15 Jan 2026 12:00:00 GMT");
    sim.advance(Duration::from_secs(86_400));
    sim.set_date_offset_us(-5_000_000);
    assert_eq!(date().await, "Fri, 16 Jan 2026 11:59:55 GMT");
}

#[tokio::test]
async fn the_sixth_read_of_a_shard_in_a_second_is_too_much() {
    let sim = DynamoSim::start(SimSettings { shards: 2, enforce_rates: true, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    let arn = sim.stream_arn().unwrap();
    let open = sim.open_shards();
    let (first, second) = (
        iterator(&clients, &arn, &open[0], ShardIteratorType::Latest).await,
        iterator(&clients, &arn, &open[1], ShardIteratorType::Latest).await,
    );
    let mut refused = Vec::new();
    // So many that a slow machine too asks more than five in some second, unless each takes as long as a fifth.
    for _ in 0..40 {
        let answer = clients.streams.get_records().shard_iterator(&first).send().await;
        refused.extend(answer.is_err().then(|| code(answer)));
    }
    assert!(!refused.is_empty() && refused.iter().all(|code| code == "ThrottlingException"), "{refused:?}");
    assert!(clients.streams.get_records().shard_iterator(&second).send().await.is_ok());
}

#[tokio::test]
async fn time_runs_by_itself_where_it_is_told_to() {
    let sim = DynamoSim::start(SimSettings { speed: 1_000_000, shards: 1, ..SimSettings::default() });
    // A million times as fast: within moments shards are rolled.
    while sim.shards().len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(sim.now_us() > SimSettings::default().start_us);
}

#[tokio::test]
async fn batches_are_left_half_done() {
    let sim = DynamoSim::start(SimSettings::default());
    let clients = Clients::new(&sim.url());
    for n in 0..4 {
        sim.put(item(&format!("k{n}"), n)).unwrap();
    }
    sim.set_faults(Faults { unprocessed_percent: 100, ..Faults::default() });
    let mut wanted: Vec<_> = (0..4)
        .map(|n| HashMap::from([("composite_key".to_owned(), AttributeValue::S(format!("k{n}")))]))
        .collect();
    let mut found = 0;
    while !wanted.is_empty() {
        let keys =
            aws_sdk_dynamodb::types::KeysAndAttributes::builder().set_keys(Some(wanted)).build().unwrap();
        let answer =
            clients.tables.batch_get_item().request_items("flagsmith_identities", keys).send().await.unwrap();
        found += answer.responses.unwrap()["flagsmith_identities"].len();
        wanted = answer
            .unprocessed_keys
            .unwrap()
            .remove("flagsmith_identities")
            .map(|keys| keys.keys)
            .unwrap_or_default();
    }
    assert_eq!(found, 4);
    assert_eq!(sim.counts().of(Action::BatchGetItem), 3);
}

#[test]
fn a_new_stream_follows_one_that_ended() {
    let sim = DynamoSim::start(SimSettings::default());
    let old = sim.stream_arn().unwrap();
    assert!(!sim.enable_stream(ViewType::KeysOnly), "one is enabled");
    assert!(sim.disable_stream());
    assert!(sim.open_shards().is_empty());
    assert!(sim.enable_stream(ViewType::NewAndOldImages));
    assert_ne!(sim.stream_arn().unwrap(), old);
    assert!(!sim.open_shards().is_empty());
}

#[tokio::test]
async fn a_type_to_come_is_one_that_the_sdk_does_not_know() {
    let sim = DynamoSim::start(SimSettings { shards: 1, ..SimSettings::default() });
    let clients = Clients::new(&sim.url());
    let mut odd = item("odd", 1);
    odd.insert("vector".to_owned(), Attribute::L(vec![Attribute::Unknown("VEC".to_owned())]));
    assert!(sim.put(odd.clone()).is_err(), "DynamoDB would refuse it");
    sim.put_unchecked(odd).unwrap();
    let scanned = clients.tables.scan().table_name("flagsmith_identities").send().await.unwrap();
    assert!(scanned.items()[0]["vector"].as_l().unwrap()[0].is_unknown());
    let records = records(&clients, &sim.stream_arn().unwrap(), &sim.open_shards()[0]).await;
    let image = records[0].dynamodb().unwrap().new_image().unwrap();
    assert!(image["vector"].as_l().unwrap()[0].is_unknown());
}

#[tokio::test]
async fn a_slow_answer_comes() {
    let sim = DynamoSim::start(SimSettings::default());
    let clients = Clients::new(&sim.url());
    sim.set_faults(Faults { slow_percent: 100, slow_ms_max: 20, ..Faults::default() });
    for _ in 0..5 {
        clients.tables.scan().table_name("flagsmith_identities").send().await.unwrap();
    }
}
