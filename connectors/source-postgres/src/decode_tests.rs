#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rollcall_model::{TableRole, TableSpec};

use super::*;
use crate::fold::{Side, change};
use crate::relation::Table;

// One message of each kind, byte by byte as the protocol's description has them.
const RELATION: &[u8] =
    b"R\0\0@\x0cpublic\0trait\0i\0\x03\x01identity_id\0\0\0\0\x17\xff\xff\xff\xff\x01trait_key\0\
    \0\0\x04\x13\0\0\0\xcc\0value\0\0\0\0\x19\xff\xff\xff\xff";
const INSERT: &[u8] = b"I\0\0@\x0cN\0\x03t\0\0\0\x011t\0\0\0\x01an";
const UPDATE: &[u8] = b"U\0\0@\x0cK\0\x03t\0\0\0\x011t\0\0\0\x01anN\0\x03t\0\0\0\x012t\0\0\0\x01au";
const DELETE: &[u8] = b"D\0\0@\x0cO\0\x03t\0\0\0\x011t\0\0\0\x01at\0\0\0\x02xy";
const TRUNCATE: &[u8] = b"T\0\0\0\x01\0\0\0@\x0c";
const EMITTED: &[u8] = b"M\x01\0\0\0\0\x01\x99\x2a\x18rollcall\0\0\0\0\x08page a 1";
const BEGIN: &[u8] = b"B\0\0\0\0\x01\x99\x2a\x18\0\x02\xa9\x0b\x1c\x7a\x3e\x10\0\0\x02\xe1";
const COMMIT: &[u8] = b"C\0\0\0\0\0\x01\x99\x2a\x18\0\0\0\0\x01\x99\x2a\x48\0\x02\xa9\x0b\x1c\x7a\x3e\x10";

fn table() -> Table {
    let Message::Relation(relation) = Message::parse(RELATION).unwrap() else { panic!("no relation") };
    let spec = TableSpec {
        name: "trait",
        role: TableRole::IdentityPart { identity: "identity_id", key: &["trait_key"] },
        columns: &["identity_id", "trait_key", "value"],
        optional: &[],
    };
    Table::new(&spec, (&"core".into(), "public"), &relation.columns).unwrap()
}

#[test]
fn each_kind_of_message_is_read() {
    let fields = |tuple: &Tuple<'static>| tuple.fields().collect::<Vec<_>>();
    let Message::Relation(relation) = Message::parse(RELATION).unwrap() else { panic!("no relation") };
    assert_eq!((relation.oid, relation.schema.as_str(), relation.name.as_str()), (0x400c, "public", "trait"));
    let columns: Vec<_> = relation.columns.iter().map(|c| (c.name.as_str(), c.key, c.type_oid)).collect();
    assert_eq!(columns, [("identity_id", true, 23), ("trait_key", true, 1043), ("value", false, 25)]);
    let Message::Insert { oid: 0x400c, new } = Message::parse(INSERT).unwrap() else { panic!("no insert") };
    assert_eq!(fields(&new), [Field::Text(b"1"), Field::Text(b"a"), Field::Null]);
    let Message::Update { old: Some((Old::Key, old)), new, .. } = Message::parse(UPDATE).unwrap() else {
        panic!("no update")
    };
    assert_eq!(fields(&old), [Field::Text(b"1"), Field::Text(b"a"), Field::Null]);
    assert_eq!(fields(&new), [Field::Text(b"2"), Field::Text(b"a"), Field::Unchanged]);
    let Message::Delete { old: (Old::Full, old), .. } = Message::parse(DELETE).unwrap() else {
        panic!("no delete")
    };
    assert_eq!(fields(&old), [Field::Text(b"1"), Field::Text(b"a"), Field::Text(b"xy")]);
    assert_eq!(Message::parse(TRUNCATE).unwrap(), Message::Truncate { oids: vec![0x400c] });
    let emitted = Message::Emitted { prefix: b"rollcall", content: b"page a 1" };
    assert_eq!(Message::parse(EMITTED).unwrap(), emitted);
    let Message::Begin { commit: 0x0199_2a18, xid: 0x2e1, .. } = Message::parse(BEGIN).unwrap() else {
        panic!("no begin")
    };
    assert_eq!(Message::parse(COMMIT).unwrap(), Message::Commit { end: 0x0199_2a48 });
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    for whole in [RELATION, INSERT, UPDATE, DELETE, TRUNCATE, EMITTED, BEGIN, COMMIT] {
        for end in 0..whole.len() {
            assert!(Message::parse(&whole[..end]).is_err(), "{:?} cut at {end}", char::from(whole[0]));
        }
        assert!(Message::parse(&[whole, b"x"].concat()).is_err());
    }
}

/// Reads whatever it is given, as far as it can be read.
fn read(bytes: &[u8]) {
    let table = table();
    for side in [Side::Whole, Side::Left, Side::Came] {
        drop(change(&table, side, bytes));
    }
    if let Ok(
        Message::Insert { new, .. } | Message::Update { new, .. } | Message::Delete { old: (_, new), .. },
    ) = Message::parse(bytes)
    {
        assert_eq!(new.fields().count(), new.len(), "a tuple that was read is whole");
        table.id(&new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn rubbish_never_panics(kind in prop::sample::select(b"BCRIUDTMOY?".to_vec()), mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        bytes.insert(0, kind);
        read(&bytes);
    }

    #[test]
    fn changed_messages_never_panic(
        which in 0..8_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = [RELATION, INSERT, UPDATE, DELETE, TRUNCATE, EMITTED, BEGIN, COMMIT][which].to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read(&bytes);
    }

    #[test]
    fn any_text_reads_as_any_type(bytes in prop::collection::vec(any::<u8>(), 0..40), oid in prop::sample::select(vec![16_u32, 20, 23, 25, 701, 1114, 1184, 2950, 3802, 1])) {
        drop(crate::cell::Kind::of(oid).cell(&bytes));
    }

    #[test]
    fn nearly_times_read_as_times_or_as_text(text in "[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2} [0-9]{1,2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,7})?([+-][0-9]{2}(:[0-9]{2}){0,2})?( BC)?") {
        use rollcall_model::Cell;
        let cell = crate::cell::Kind::Timestamp.cell(text.as_bytes());
        prop_assert!(matches!(cell, Cell::TimestampUs(_)) || cell == Cell::Text(text));
    }
}
