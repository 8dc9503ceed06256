//! Histories: the same for a seed, of every kind of step, and readable to the end through every fault.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodbstreams::error::ProvideErrorMetadata;
use aws_sdk_dynamodbstreams::types::ShardIteratorType;
use rollcall_dynamo_sim::{Faults, History, Step};

use crate::clients::Clients;

#[test]
fn a_history_of_a_seed_is_always_the_same() {
    let run = |seed| {
        let history = History::generate(seed, 300);
        let sim = history.start();
        history.steps.iter().for_each(|step| step.apply(&sim));
        (history, sim.items(), sim.shards(), format!("{:?}", sim.history()))
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn histories_hold_everything_that_can_happen() {
    let steps: Vec<Step> = (0..20).flat_map(|seed| History::generate(seed, 100).steps).collect();
    let kinds: BTreeSet<String> =
        steps.iter().map(|step| format!("{step:?}").split('(').next().unwrap().to_owned()).collect();
    let all = ["Advance", "Delete", "Expire", "Faults", "Put", "PutAgain", "Roll", "Split", "Trim"];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

/// The least that a reader has to do, done under every fault: what it reads is what was written.
#[tokio::test]
async fn a_patient_reader_reads_everything_through_faults() {
    for seed in 0..20 {
        let history = History::generate(seed, 150);
        let sim = history.start();
        let clients = Clients::new(&sim.url());
        let arn = sim.stream_arn().unwrap();
        for step in &history.steps {
            // Nobody reads meanwhile, so nothing may be trimmed.
            if !step.wants_readers_done() {
                step.apply(&sim);
            }
        }
        sim.set_faults(Faults::bearable(20));
        let mut read: BTreeMap<(String, String), String> = BTreeMap::new();
        for shard in patient_shards(&clients, &arn).await {
            patient_records(&clients, &arn, &shard, &mut read).await;
        }
        let written: BTreeMap<(String, String), String> = sim
            .history()
            .into_iter()
            .map(|written| {
                let (shard, sequence) = written.record.unwrap();
                ((shard.to_string(), sequence.to_string()), written.key.to_string())
            })
            .collect();
        assert_eq!(read, written, "seed {seed}");
    }
}

async fn patient_shards(clients: &Clients, arn: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = clients.streams.describe_stream().stream_arn(arn).limit(20);
        let Ok(page) = page.set_exclusive_start_shard_id(after.clone()).send().await else { continue };
        let description = page.stream_description.unwrap();
        all.extend(description.shards().iter().map(|shard| shard.shard_id().unwrap().to_owned()));
        after = description.last_evaluated_shard_id;
        if after.is_none() {
            return all;
        }
    }
}

/// Reads a shard to its end, or, as open ones have none, until five answers in a row are empty.
async fn patient_records(
    clients: &Clients,
    arn: &str,
    shard: &str,
    into: &mut BTreeMap<(String, String), String>,
) {
    let mut last: Option<String> = None;
    let mut next: Option<String> = None;
    let mut empty = 0;
    while empty < 5 {
        let Some(iterator) = next.clone() else {
            let iterator = clients.streams.get_shard_iterator().stream_arn(arn).shard_id(shard);
            let kind = if last.is_some() {
                ShardIteratorType::AfterSequenceNumber
            } else {
                ShardIteratorType::TrimHorizon
            };
            let iterator = iterator.shard_iterator_type(kind).set_sequence_number(last.clone()).send().await;
            next = iterator.ok().and_then(|answer| answer.shard_iterator);
            continue;
        };
        match clients.streams.get_records().shard_iterator(iterator).limit(7).send().await {
            Ok(answer) => {
                empty = if answer.records().is_empty() { empty + 1 } else { 0 };
                for record in answer.records() {
                    let stream = record.dynamodb().unwrap();
                    let sequence = stream.sequence_number().unwrap().to_owned();
                    let key = stream.keys().unwrap()["composite_key"].as_s().unwrap().clone();
                    assert!(
                        into.insert((shard.to_owned(), sequence.clone()), key).is_none(),
                        "{sequence} twice"
                    );
                    last = Some(sequence);
                }
                next = answer.next_shard_iterator;
                if next.is_none() {
                    return;
                }
            }
            Err(refused) => {
                if refused.code() == Some("ExpiredIteratorException") {
                    next = None;
                }
            }
        }
    }
}
