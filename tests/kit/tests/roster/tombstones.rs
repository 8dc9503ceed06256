//! Tombstones that go for good, and what else happens in the same turn.

use std::collections::BTreeSet;

use rollcall_kit::MemoryStore;
use rollcall_model::{
    BackfillId, Change, ChangeRecord, EnvironmentId, IdentityKey, Image, Input, LogId, NativeId, Partition,
    Place, Precedence, Progress, Topic, Traits,
};
use rollcall_roster::counts::Counts;
use rollcall_roster::{Roster, RosterState, StoredState, Turn};

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

fn key(id: i64) -> IdentityKey {
    IdentityKey { source: "core".into(), id: NativeId::Int(id) }
}

fn change(id: i64, change: Change, at_us: i64) -> Input {
    Input::Change(ChangeRecord {
        source: "core".into(),
        id: NativeId::Int(id),
        change,
        source_time_us: at_us,
        position: String::new(),
        backfill: None,
        precedence: Precedence::Place,
    })
}

fn born(id: i64, at_us: i64) -> Input {
    let image = Image {
        environment_id: EnvironmentId::from(0),
        identifier: format!("user {id}"),
        traits: Traits::new(),
        system_traits: Traits::new(),
    };
    change(id, Change::Upsert { image }, at_us)
}

fn place(offset: u64) -> Place {
    Place { epoch: 0, offset }
}

/// Identities 1 to 7, of which 5 was deleted long ago; a turn takes 4 rows of a scan.
fn aged() -> (Roster, MemoryStore) {
    let mut store = MemoryStore::default();
    let mut roster =
        Roster::new(LogId("log".into()), Partition(0), RosterState::default(), Counts::default(), DAY_US)
            .with_scan_rows(4);
    let mut session = roster.session(&store);
    for id in 1..=7 {
        session.apply(place(id as u64), &born(id, 1)).unwrap();
    }
    session.apply(place(8), &change(5, Change::Delete, 2)).unwrap();
    let output = session.finish();
    store.write(output.stored);
    (roster, store)
}

fn watermark() -> Input {
    Input::Watermark { source: "core".into(), position: String::new(), at_us: 3 * DAY_US }
}

/// A page finds all that is gone in its range, also where tombstones were dropped in the same turn.
#[test]
fn a_sweep_goes_on_past_tombstones_dropped_in_its_turn() {
    let (mut roster, mut store) = aged();
    let page = Input::Page {
        source: "core".into(),
        backfill: BackfillId("core-1".into()),
        from: Some(NativeId::Int(1)),
        to: None,
        present: BTreeSet::from([NativeId::Int(1)]),
        source_time_us: 3 * DAY_US,
    };
    let inputs = [(place(9), watermark()), (place(10), page)];
    let mut at = 0;
    while at < inputs.len() {
        let mut session = roster.session(&store);
        while let Some((place, input)) = inputs.get(at) {
            if session.apply(*place, input).unwrap() != Turn::Done {
                break;
            }
            at += 1;
        }
        let output = session.finish();
        store.write(output.stored);
    }
    let left: Vec<_> =
        store.rows.values().filter(|s| s.image().is_some()).map(|s| s.key.id.clone()).collect();
    assert_eq!(left, [NativeId::Int(1)]);
}

/// An identity that comes back in the commit that drops its tombstone stays in the topic.
#[test]
fn who_comes_back_as_the_tombstone_goes_stays() {
    let (mut roster, mut store) = aged();
    let mut session = roster.session(&store);
    assert_eq!(session.apply(place(9), &watermark()).unwrap(), Turn::Unfinished);
    let output = session.finish();
    store.write(output.stored);
    let mut session = roster.session(&store);
    assert_eq!(session.apply(place(9), &watermark()).unwrap(), Turn::Done);
    session.apply(place(10), &born(5, 3 * DAY_US)).unwrap();
    let output = session.finish();
    let commit = output.to_commit(Partition(0), 1, Progress::default()).unwrap();
    store.write(output.stored);
    assert!(matches!(store.rows[&key(5).sort_bytes()].state, StoredState::Live(_)));
    let mut told = commit.records.iter().filter(|r| r.topic == Topic::Identities && r.key == b"core/5");
    assert_eq!(told.clone().count(), 2, "the tombstone's end, and the image");
    assert!(told.next_back().unwrap().value.is_some());
}
