//! The topics as an operator looks at them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::stage::Stage;

/// `topic list` adds up what `--partitions` shows, `describe` says who reads and how far they are, `tail` finds a key
/// and a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_listed_described_and_searched() {
    let mut stage = Stage::running(25).await.unwrap();
    stage.assert_exact().await.unwrap();

    let partitions = stage.ask(&["topic", "list", "--partitions"]).await.unwrap();
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for part in &partitions {
        let sum = sums.entry(part["name"].as_str().unwrap().to_owned()).or_default();
        sum.0 += 1;
        sum.1 += part["end"].as_u64().unwrap() - part["start"].as_u64().unwrap();
    }
    assert_eq!(sums.len(), 10);
    assert_eq!((sums["identities"].0, sums["catalog"].0), (2, 1));
    // At rest, but for the heartbeat's watermarks and what follows from them.
    let listed = stage.ask(&["topic", "list"]).await.unwrap();
    for topic in &listed {
        let (count, records) = sums[topic["name"].as_str().unwrap()];
        assert_eq!(topic["partitions"], count, "{topic}");
        assert!(topic["records"].as_u64() >= Some(records), "{topic}");
    }
    assert_eq!(listed.len(), sums.len());
    let identities = listed.iter().find(|topic| topic["name"] == "identities").unwrap();
    assert_eq!(identities["records"], sums["identities"].1);

    for name in sums.keys() {
        let described = stage.ask(&["topic", "describe", name]).await.unwrap().remove(0);
        let schema =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(described["schema"].as_str().unwrap());
        assert!(schema.exists(), "{described:#}");
        for field in ["key", "holds"] {
            assert!(described[field].as_str().is_some_and(|text| !text.is_empty()), "{described:#}");
        }
        assert_eq!(described["partitions"].as_array().unwrap().len() as u64, sums[name].0, "{described:#}");
    }
    readers(&stage).await;
    records(&mut stage).await;
    let (code, _, said) = stage.worker.say(&["topic", "describe", "identity"]).await.unwrap();
    assert_eq!(code, 1);
    assert!(
        said.contains("there is no topic 'identity'; there are") && said.contains("identities"),
        "{said}"
    );
}

async fn readers(stage: &Stage) {
    let describe = async |name: &str| stage.ask(&["topic", "describe", name]).await.unwrap().remove(0);
    let changes = describe("membership-changes").await;
    assert_eq!((&changes["public"], &changes["retention"]), (&Value::from(true), &Value::from("time")));
    let readers = changes["readers"].as_array().unwrap();
    assert_eq!((readers.len(), &readers[0]["task"]), (1, &Value::from("sink/clickhouse")));
    assert_eq!(readers[0]["partitions"].as_array().unwrap().len(), 2);

    stage.ask(&["pause", "roster/1"]).await.unwrap();
    stage.until("roster/1", "paused").await.unwrap();
    stage.ask(&["pause", "source/core"]).await.unwrap();
    stage.until("source/core", "paused").await.unwrap();
    let (before, at) = behind(&describe("identity-changes").await, "roster/1");
    // A check in every partition, waited for in vain: one that stands has one more before it.
    drop(tokio::time::timeout(std::time::Duration::from_secs(2), stage.worker.ask(&["verify"])).await);
    let (after, still) = behind(&describe("identity-changes").await, "roster/1");
    assert_eq!((after, still), (before + 1, at));
    let (_, said, _) = stage.worker.say(&["topic", "describe", "identity-changes"]).await.unwrap();
    assert!(said.contains("identity-changes (internal): ") && said.contains("roster/1"), "{said}");
    for task in ["roster/1", "source/core"] {
        stage.ask(&["resume", task]).await.unwrap();
    }
}

/// How far a reader of partition 1 is behind, and where it stands.
fn behind(topic: &Value, task: &str) -> (u64, u64) {
    let readers = topic["readers"].as_array().unwrap();
    let reader = readers.iter().find(|reader| reader["task"] == task).unwrap();
    let place = &reader["partitions"][0];
    assert_eq!((&place["partition"], &place["behind"]), (&Value::from(1), &reader["behind"]));
    (place["behind"].as_u64().unwrap(), place["at"].as_u64().unwrap())
}

async fn records(stage: &mut Stage) {
    let one = stage.ask(&["topic", "tail", "identities", "--key", "core/7"]).await.unwrap();
    assert!(!one.is_empty() && one.iter().all(|record| record["key"] == "core/7"), "{one:#?}");
    let limited =
        stage.ask(&["topic", "tail", "identities", "--key", "core/7", "--limit", "1"]).await.unwrap();
    assert_eq!((limited.len(), &limited[0]["key"]), (1, &one[0]["key"]), "the limit counts what is shown");
    assert!(stage.ask(&["topic", "tail", "identities", "--key", "core/nobody"]).await.unwrap().is_empty());

    let all = stage.ask(&["topic", "tail", "identities"]).await.unwrap();
    let now_us = stage.number("extract(epoch FROM clock_timestamp()) * 1e6").await.unwrap();
    let time = stage.time_of(now_us).await.unwrap();
    stage.churn(40).await.unwrap();
    stage.assert_exact().await.unwrap();
    let new = stage.ask(&["topic", "tail", "identities", "--from", &time]).await.unwrap();
    let whole = stage.ask(&["topic", "tail", "identities", "--from", "1970-01-01T00:00:00Z"]).await.unwrap();
    // Compaction may come by at any time, and leaves the newest of each key.
    let (before, after, all) = (newest(&all), newest(&new), newest(&whole));
    assert!(!after.is_empty() && before.len() <= all.len());
    let changed: BTreeMap<_, _> =
        all.into_iter().filter(|(key, offset)| before.get(key) != Some(offset)).collect();
    assert_eq!(after, changed);
    let oldest = new.iter().map(|record| (&record["partition"], record["offset"].as_u64().unwrap()));
    let ends: BTreeMap<_, _> = before.iter().map(|((partition, _), offset)| (*partition, *offset)).fold(
        BTreeMap::new(),
        |mut ends: BTreeMap<u64, u64>, (partition, offset)| {
            let end = ends.entry(partition).or_default();
            *end = offset.max(*end);
            ends
        },
    );
    assert!(oldest.into_iter().all(|(partition, offset)| offset > ends[&partition.as_u64().unwrap()]));
}

/// The newest offset of each key, with its partition.
fn newest(records: &[Value]) -> BTreeMap<(u64, String), u64> {
    let one = |record: &Value| {
        let key = (record["partition"].as_u64().unwrap(), record["key"].as_str().unwrap().to_owned());
        (key, record["offset"].as_u64().unwrap())
    };
    records.iter().map(one).collect()
}
