//! C-invariants of the mirror: duplicates, rewinds, deletion, moves, renames; both directions agree with the oracle.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_model::sink::CheckRequest;
use rollcall_model::{
    CheckScope, Delivery, Fingerprint, IdentityState, NativeId, OutRecord, Sink, Traits, Value,
};
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

/// A generator of our own, so that a history is the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Segments of an identity in an environment, with since.
type Sets = BTreeMap<(i64, &'static str), BTreeMap<String, i64>>;

/// A history of 60 identities: traits, segments, deletions, re-creations, moves. Returns what must hold at its end.
fn history(dice: &mut Dice, changes: i64) -> (Vec<Delivery>, Sets, BTreeMap<i64, (&'static str, Traits)>) {
    let mut deliveries = Vec::new();
    let mut sets = Sets::new();
    let mut images: BTreeMap<i64, (&'static str, Traits)> = BTreeMap::new();
    let mut left: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for version in 1..=changes {
        let id = dice.below(60) as i64;
        let environment = ["env1", "env2"][dice.below(2) as usize];
        let before = images.get(&id).map(|(environment, _)| *environment);
        if let Some(old) = before.filter(|old| *old != environment || dice.below(5) == 0) {
            // It leaves everything where it was.
            let leaves: Vec<String> = sets.remove(&(id, old)).unwrap_or_default().into_keys().collect();
            let leaves: Vec<&str> = leaves.iter().map(String::as_str).collect();
            deliveries.push(of_change(change(id, old, version, &[], &leaves)));
            if old == environment {
                images.remove(&id);
                deliveries.push(of_identity(identity(id, old, version, IdentityState::Deleted)));
                continue;
            }
            left.entry(id).or_default().insert(old.to_owned());
        }
        let traits = Traits::from([("v".to_owned(), Value::Int(version))]);
        let mut record = live(id, environment, version, traits.clone());
        record.left_environment_keys = left.get(&id).cloned().unwrap_or_default();
        deliveries.push(of_identity(record));
        images.insert(id, (environment, traits));
        let set = sets.entry((id, environment)).or_default();
        let (mut entered, mut leaves) = (Vec::new(), Vec::new());
        for segment in ["1", "2", "3"] {
            match (dice.below(3), set.contains_key(segment)) {
                (0, true) => {
                    set.remove(segment);
                    leaves.push(segment);
                }
                (1, false) => {
                    set.insert(segment.to_owned(), version * 10);
                    entered.push(segment);
                }
                _ => (),
            }
        }
        deliveries.push(of_change(change(id, environment, version, &entered, &leaves)));
    }
    (deliveries, sets, images)
}

async fn assert_holds(
    server: &ClickHouse,
    sink: &mut rollcall_sink_clickhouse::ClickHouseSink,
    sets: &Sets,
    images: &BTreeMap<i64, (&'static str, Traits)>,
) {
    let mut members: Vec<(String, String, String, String, i64)> = Vec::new();
    let mut expected: BTreeMap<(String, String, u16), (u64, Fingerprint)> = BTreeMap::new();
    for ((id, environment), set) in sets {
        for (segment, since) in set {
            members.push((
                segment.clone(),
                (*environment).to_owned(),
                id.to_string(),
                format!("user{id}"),
                *since,
            ));
            let total = expected
                .entry((segment.clone(), (*environment).to_owned(), partition_of(*id).0))
                .or_default();
            total.0 += 1;
            total.1.add(&id.to_string());
        }
    }
    members.sort();
    for view in ["segment_members", "identity_segments"] {
        let found: Vec<(String, String, String, String, i64)> = rows(
            server,
            &format!(
                "SELECT segment_id, environment_id, id, identifier, toUnixTimestamp64Micro(since) \
                 FROM rollcall.{view} ORDER BY segment_id, environment_id, id"
            ),
        )
        .await;
        assert_eq!(found, members, "{view}");
    }
    let mut expected: Vec<_> = expected.into_iter().map(|((s, e, _), (n, f))| (s, e, n, f)).collect();
    expected.sort_by(|a, b| (&a.0, &a.1, a.2, a.3.0).cmp(&(&b.0, &b.1, b.2, b.3.0)));
    assert_eq!(totals(sink).await, expected);
    let mut shown: Vec<(String, String, i64)> = images
        .iter()
        .map(|(id, (environment, traits))| {
            let Some(Value::Int(version)) = traits.get("v") else { panic!("a version") };
            ((*environment).to_owned(), format!("user{id}"), *version)
        })
        .collect();
    shown.sort();
    let found: Vec<(String, String, i64)> = rows(
        server,
        "SELECT environment_id, identifier, assumeNotNull(traits.v.:Int64) FROM default.IDENTITIES AS i FINAL \
         ORDER BY environment_id, identifier",
    )
    .await;
    assert_eq!(found, shown);
}

#[tokio::test]
async fn any_replay_ends_in_the_same_tables() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let mut dice = Dice(20_261_121);
    let (deliveries, sets, images) = history(&mut dice, 900);
    // Pieces in order, with rewinds of any length in between.
    let mut at = 0;
    while at < deliveries.len() {
        let end = (at + 1 + dice.below(300) as usize).min(deliveries.len());
        sink.write(&deliveries[at..end]).await.unwrap();
        at = if dice.below(3) == 0 { end - (dice.below(end as u64) as usize).min(250) } else { end };
    }
    assert_holds(&server, &mut sink, &sets, &images).await;
    // Every record again, newest first, merged before and after.
    for table in ["IDENTITIES", "members_by_segment", "members_by_identity"] {
        run(&server, &format!("OPTIMIZE TABLE rollcall.{table} FINAL")).await;
    }
    assert_holds(&server, &mut sink, &sets, &images).await;
    let backwards: Vec<Delivery> = deliveries.iter().rev().cloned().collect();
    for piece in backwards.chunks(400) {
        sink.write(piece).await.unwrap();
    }
    assert_holds(&server, &mut sink, &sets, &images).await;
}

#[tokio::test]
async fn deleted_and_created_again_under_another_id() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let mut again = live(2, "env1", 30, Traits::new());
    if let IdentityState::Live(image) = &mut again.state {
        image.identifier = "user1".into();
    }
    sink.write(&[
        of_identity(live(1, "env1", 10, Traits::new())),
        of_change(change(1, "env1", 10, &["1"], &[])),
        of_identity(identity(1, "env1", 20, IdentityState::Deleted)),
        of_change(change(1, "env1", 20, &[], &["1"])),
        of_identity(again),
        of_change(change(2, "env1", 30, &["1"], &[])),
    ])
    .await
    .unwrap();
    let found: Vec<(String, String)> =
        rows(&server, "SELECT id, identifier FROM rollcall.segment_members WHERE segment_id = '1'").await;
    assert_eq!(found, [("2".to_owned(), "user1".to_owned())]);
    let shown: Vec<String> = rows(&server, "SELECT identifier FROM default.IDENTITIES").await;
    assert_eq!(shown, ["user1"]);
}

#[tokio::test]
async fn back_in_an_environment_it_once_left() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let mut moved = live(1, "env2", 20, Traits::new());
    moved.left_environment_keys = BTreeSet::from(["env1".to_owned()]);
    let mut back = live(1, "env1", 30, Traits::new());
    back.left_environment_keys = BTreeSet::from(["env1".to_owned(), "env2".to_owned()]);
    for record in [live(1, "env1", 10, Traits::new()), moved, back] {
        sink.write(&[of_identity(record)]).await.unwrap();
    }
    let found: Vec<(String, String)> =
        rows(&server, "SELECT environment_id, id FROM rollcall.IDENTITIES FINAL").await;
    assert_eq!(found, [("env1".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn a_rename_shows_without_a_membership_change() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    sink.write(&[
        of_identity(live(1, "env1", 10, Traits::new())),
        of_change(change(1, "env1", 10, &["1"], &[])),
    ])
    .await
    .unwrap();
    let renamed = identity(1, "env1", 20, IdentityState::Live(image("ann", Traits::new())));
    sink.write(&[of_identity(renamed)]).await.unwrap();
    let page = reader(&server).members(&"1".into(), "env1", Some("AN"), 10, None).await.unwrap();
    assert_eq!(page.members.len(), 1);
    assert_eq!((page.members[0].identifier.as_str(), page.members[0].since_us), ("ann", 100));
    let found: Vec<String> =
        rows(&server, "SELECT identifier FROM rollcall.identity_segments WHERE id = '1'").await;
    assert_eq!(found, ["ann"]);
}

#[tokio::test]
async fn members_come_page_by_page_and_are_counted() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let mut batch = Vec::new();
    for id in 1..=25 {
        batch.push(of_identity(live(id, "env1", id, Traits::new())));
        batch.push(of_change(change(id, "env1", id, &["1"], &[])));
        batch.push(of_change(change(id, "env2", id, &["1"], &[])));
    }
    sink.write(&batch).await.unwrap();
    let reader = reader(&server);
    let mut ids = Vec::new();
    let mut cursor: Option<String> = None;
    let mut pages = 0;
    loop {
        let page = reader.members(&"1".into(), "env1", None, 10, cursor.as_deref()).await.unwrap();
        ids.extend(page.members.into_iter().map(|m| m.id));
        pages += 1;
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 25);
    assert_eq!(reader.count(&"1".into(), "env1").await.unwrap(), 25);
    assert_eq!(reader.count(&"2".into(), "env1").await.unwrap(), 0);
    // Text that SQL would take for itself is only text.
    let none = reader.members(&"1' OR '1'='1".into(), "env1", Some("%'\\"), 10, None).await.unwrap();
    assert_eq!(none.members, []);
    let matching = reader.members(&"1".into(), "env1", Some("USER2"), 50, None).await.unwrap();
    assert_eq!(matching.members.len(), 7, "2 and 20 to 25");
}

#[tokio::test]
async fn a_difference_is_narrowed_down_to_its_members() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let batch: Vec<_> = (0..400_i64).map(|n| of_change(change(n * 4, "env1", n + 1, &["1"], &[]))).collect();
    sink.write(&batch).await.unwrap();
    let ids: Vec<String> = batch
        .iter()
        .filter_map(|delivery| match &delivery.record {
            OutRecord::MembershipChange(change) => Some(change.id.clone()),
            OutRecord::Identity(_)
            | OutRecord::Membership(_)
            | OutRecord::Count(_)
            | OutRecord::Watermark(_) => None,
        })
        .map(|id: NativeId| id.to_string())
        .collect();
    let mut buckets: BTreeMap<u8, (u64, Fingerprint)> = BTreeMap::new();
    for id in &ids {
        let bucket = buckets.entry((Fingerprint::of(id) >> 56) as u8).or_default();
        bucket.0 += 1;
        bucket.1.add(id);
    }
    let partition = partition_of(0);
    let (segment_id, environment_id) = ("1".into(), "1".into());
    let scope = CheckScope::Buckets { segment_id, environment_id };
    let report = sink.check(&CheckRequest { id: "c".into(), partition, scope }).await.unwrap();
    assert_eq!(report.buckets, buckets);
    let some: BTreeSet<u8> = buckets.keys().copied().take(3).collect();
    let expected: BTreeSet<String> =
        ids.iter().filter(|id| some.contains(&((Fingerprint::of(id) >> 56) as u8))).cloned().collect();
    let scope = CheckScope::Members { segment_id: "1".into(), environment_id: "1".into(), buckets: some };
    let report = sink.check(&CheckRequest { id: "c".into(), partition, scope }).await.unwrap();
    assert_eq!(report.members, expected);
}

/// S4-06: each direction is read by its own order, and the join for the identifier as well.
#[tokio::test]
async fn lookups_touch_few_granules() {
    let server = ClickHouse::temporary();
    prepared(&server).await;
    for table in ["members_by_segment", "members_by_identity"] {
        run(
            &server,
            &format!(
                "INSERT INTO rollcall.{table} (segment_id, environment_id, id, inserted_at) \
                 SELECT toString(number % 10), 'env1', toString(number), 1 FROM numbers(200000)"
            ),
        )
        .await;
    }
    run(
        &server,
        "INSERT INTO rollcall.IDENTITIES (environment_id, id, inserted_at) \
         SELECT 'env1', toString(number), 1 FROM numbers(200000)",
    )
    .await;
    for question in [
        "SELECT * FROM rollcall.segment_members WHERE segment_id = '3' AND environment_id = 'env1' AND id = '12343'",
        "SELECT * FROM rollcall.identity_segments WHERE id = '12343' AND environment_id = 'env1'",
    ] {
        let plan: Vec<String> = rows(&server, &format!("EXPLAIN indexes = 1 {question}")).await;
        let granules: Vec<(u64, u64)> = plan
            .iter()
            .filter_map(|line| {
                line.trim_start_matches(['│', ' ']).strip_prefix("Granules: ")?.split_once('/')
            })
            .map(|(read, all)| (read.parse().unwrap(), all.parse().unwrap()))
            .collect();
        assert_eq!(granules.len(), 2, "{plan:#?}");
        assert!(granules.iter().all(|(read, all)| *read <= 2 && *all > 10), "{granules:?} of {question}");
    }
}
