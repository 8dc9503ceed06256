//! Counts of a moment, in a table of their own.

use rollcall_model::{
    Delivery, FaultKind, Member, MembershipRecord, NativeId, OutRecord, Partition, Place, Seq, Topic, Version,
};
use rollcall_sink_counts::{CountsSinkConfig, NewCounts, Preset};

use crate::support::{Server, log};

fn config(server: &Server) -> CountsSinkConfig {
    CountsSinkConfig {
        name: "counts".into(),
        url: server.0.url(),
        preset: Preset::Native,
        schema: CountsSinkConfig::DEFAULT_SCHEMA.into(),
    }
}

fn set(id: &str, version: i64, segments: &[&str]) -> Delivery {
    let member = |segment: &&str| Member { segment_id: (*segment).into(), since_us: 1, sources: vec![] };
    let record = MembershipRecord {
        log_id: log(),
        seq: Seq(1),
        version: Version(version),
        source: "core".into(),
        id: NativeId::Text(id.into()),
        environment_id: "7".into(),
        environment_key: "key".to_owned(),
        identifier: id.to_owned(),
        segments: segments.iter().map(member).collect(),
    };
    let (topic, partition, place) = (Topic::Memberships, Partition(0), Place::default());
    Delivery { topic, partition, place, record: OutRecord::Membership(record) }
}

#[tokio::test]
async fn the_newest_set_of_each_identity_counts_wherever_it_is_killed() {
    let server = Server::start();
    let (mut new, state) = NewCounts::open(&config(&server), "then", "{}").await.unwrap();
    assert_eq!(state, None);
    new.write(&[set("a", 1, &["1", "2"]), set("b\0", 1, &["1"]), set("a", 2, &["2"])], "one").await.unwrap();
    let (mut new, state) = NewCounts::open(&config(&server), "then", "{}").await.unwrap();
    assert_eq!(state.as_deref(), Some("one"));
    // Some of it again, and an old set after a newer one.
    new.write(&[set("a", 1, &["1", "2"]), set("c", 5, &["2", "3'\"\\"])], "two").await.unwrap();
    new.write(&[], "three").await.unwrap();
    assert_eq!(NewCounts::open(&config(&server), "then", "{}").await.unwrap().1.as_deref(), Some("three"));
    let other = NewCounts::open(&config(&server), "then", "{1}").await.unwrap_err();
    assert_eq!(other.kind, FaultKind::Refused, "{other}");
    assert!(other.to_string().contains(r#"DROP TABLE "public"."then_sets""#), "{other}");

    assert_eq!(new.finish().await.unwrap(), 3);
    let client = server.client().await;
    let rows = client.query("SELECT * FROM public.then ORDER BY segment_id", &[]).await.unwrap();
    let rows: Vec<(String, String, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let of = |segment: &str, count| (segment.to_owned(), "7".to_owned(), count);
    assert_eq!(rows, [of("1", 1), of("2", 2), of("3'\"\\", 1)]);
    let left = client.query("SELECT FROM pg_class WHERE relname = 'then_sets'", &[]).await.unwrap();
    assert!(left.is_empty(), "what it was counted from is gone");
    let again = NewCounts::open(&config(&server), "then", "{}").await.unwrap_err();
    assert_eq!(again.kind, FaultKind::Refused, "{again}");
    for bad in ["", "a b", "A", "1a", "a;b", &"a".repeat(51)] {
        assert_eq!(
            NewCounts::open(&config(&server), bad, "{}").await.unwrap_err().kind,
            FaultKind::Config,
            "{bad}"
        );
    }
}
