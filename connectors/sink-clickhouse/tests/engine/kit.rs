//! Records by hand, and a sink with its server.

use std::collections::BTreeSet;

use clickhouse::{Client, RowOwned, RowRead};
use rollcall_model::records::CheckTotal;
use rollcall_model::sink::CheckRequest;
use rollcall_model::{
    Cause, CheckScope, Delivery, Fingerprint, IdentityRecord, IdentityState, Image, LogId, Member,
    MembershipChange, MembershipRecord, NativeId, OutRecord, Partition, Place, Seq, Sink, Topic, Traits,
    Version,
};
use rollcall_sink_clickhouse::{ClickHouseReader, ClickHouseSink, ClickHouseSinkConfig, Preset};
use rollcall_test_servers::ClickHouse;

pub(crate) const PARTITIONS: u16 = 4;

pub(crate) fn log_id() -> LogId {
    LogId("log-a".into())
}

pub(crate) fn config(server: &ClickHouse, preset: Preset) -> ClickHouseSinkConfig {
    ClickHouseSinkConfig { preset, ..ClickHouseSinkConfig::new("clickhouse", server.url()) }
}

pub(crate) fn sink(server: &ClickHouse) -> ClickHouseSink {
    ClickHouseSink::connect(config(server, Preset::Flagsmith)).unwrap()
}

pub(crate) async fn prepared(server: &ClickHouse) -> ClickHouseSink {
    let mut sink = sink(server);
    sink.prepare(&log_id(), PARTITIONS).await.unwrap();
    sink
}

pub(crate) fn reader(server: &ClickHouse) -> ClickHouseReader {
    ClickHouseReader::connect(&config(server, Preset::Native)).unwrap()
}

pub(crate) async fn run(server: &ClickHouse, sql: &str) {
    Client::default()
        .with_url(server.url())
        .query_raw(sql)
        .execute()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

pub(crate) async fn rows<T: RowOwned + RowRead>(server: &ClickHouse, sql: &str) -> Vec<T> {
    let client = Client::default().with_url(server.url());
    client.query_raw(sql).fetch_all().await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

pub(crate) fn partition_of(id: i64) -> Partition {
    Partition((id % i64::from(PARTITIONS)) as u16)
}

/// A record of one identity of source `core`; its seq is its version.
pub(crate) fn identity(id: i64, environment: &str, version: i64, state: IdentityState) -> IdentityRecord {
    IdentityRecord {
        log_id: log_id(),
        partition: partition_of(id),
        seq: Seq(version as u64),
        version: Version(version),
        deleted: !matches!(state, IdentityState::Live(_)),
        source: "core".into(),
        id: NativeId::Int(id),
        environment_key: Some(environment.into()),
        identity_key: Some(format!("{environment}_user{id}")),
        state,
        left_environment_keys: BTreeSet::new(),
        place: Place::default(),
        parked: Vec::new(),
        seen: Default::default(),
    }
}

pub(crate) fn image(identifier: impl Into<String>, traits: Traits) -> Image {
    Image { environment_id: "1".into(), identifier: identifier.into(), traits, system_traits: Traits::new() }
}

pub(crate) fn live(id: i64, environment: &str, version: i64, traits: Traits) -> IdentityRecord {
    identity(id, environment, version, IdentityState::Live(image(format!("user{id}"), traits)))
}

pub(crate) fn change(
    id: i64,
    environment: &str,
    version: i64,
    entered: &[&str],
    left: &[&str],
) -> MembershipChange {
    MembershipChange {
        event_id: format!("log-a-{}-{version}-0", partition_of(id)),
        log_id: log_id(),
        environment_id: environment_id(environment).into(),
        environment_key: environment.into(),
        source: "core".into(),
        id: NativeId::Int(id),
        identifier: format!("user{id}"),
        identity_key: format!("{environment}_user{id}"),
        version: Version(version),
        seq: Seq(version as u64),
        changed: BTreeSet::new(),
        entered: entered.iter().map(|s| (*s).into()).collect(),
        left: left.iter().map(|s| (*s).into()).collect(),
        cause: Cause::Change,
        at_us: version * 10,
        position: String::new(),
    }
}

pub(crate) fn membership(
    id: i64,
    environment: &str,
    version: i64,
    segments: &[(&str, i64)],
) -> MembershipRecord {
    MembershipRecord {
        log_id: log_id(),
        seq: Seq(version as u64),
        version: Version(version),
        source: "core".into(),
        id: NativeId::Int(id),
        environment_id: environment_id(environment).into(),
        environment_key: environment.into(),
        identifier: format!("user{id}"),
        segments: segments
            .iter()
            .map(|(segment, since_us)| Member {
                segment_id: (*segment).into(),
                since_us: *since_us,
                sources: vec!["rule".into()],
            })
            .collect(),
    }
}

/// The platform's id of an environment whose key is `env<id>`.
fn environment_id(key: &str) -> &str {
    key.trim_start_matches("env")
}

pub(crate) fn of_identity(record: IdentityRecord) -> Delivery {
    deliver(Topic::Identities, record.partition, OutRecord::Identity(record))
}

pub(crate) fn of_change(change: MembershipChange) -> Delivery {
    let NativeId::Int(id) = change.id else { panic!("integer ids here") };
    deliver(Topic::MembershipChanges, partition_of(id), OutRecord::MembershipChange(change))
}

pub(crate) fn of_membership(record: MembershipRecord) -> Delivery {
    let NativeId::Int(id) = record.id else { panic!("integer ids here") };
    deliver(Topic::Memberships, partition_of(id), OutRecord::Membership(record))
}

fn deliver(topic: Topic, partition: Partition, record: OutRecord) -> Delivery {
    Delivery { topic, partition, place: Place::default(), record }
}

/// What `check` says of all partitions, as (segment, environment's key, ids' count, ids' fingerprint).
pub(crate) async fn totals(sink: &mut ClickHouseSink) -> Vec<(String, String, u64, Fingerprint)> {
    let mut all = Vec::new();
    for partition in 0..PARTITIONS {
        let request =
            CheckRequest { id: "c".into(), partition: Partition(partition), scope: CheckScope::Totals };
        let report = sink.check(&request).await.unwrap();
        assert_eq!(report.differences, Vec::<String>::new());
        assert_eq!(report.store, "clickhouse");
        all.extend(report.totals.into_iter().map(|line: CheckTotal| {
            assert_eq!(
                line.environment_id.unwrap().as_str(),
                environment_id(line.environment_key.as_deref().unwrap())
            );
            let environment_key = line.environment_key.unwrap();
            (line.segment_id.as_str().to_owned(), environment_key, line.count, line.fingerprint)
        }));
    }
    all.sort_by(|a, b| (&a.0, &a.1, a.2, a.3.0).cmp(&(&b.0, &b.1, b.2, b.3.0)));
    all
}
