//! Every trait value arrives as it was: for the platform's readers, and exactly when read back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use num_bigint::BigInt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rollcall_model::{IdentityState, Sink, Traits, Value};
use rollcall_sink_clickhouse::ClickHouseSink;
use rollcall_test_servers::ClickHouse;

use crate::kit::*;

/// Traits that have gone wrong somewhere before.
fn edge_cases() -> Vec<Traits> {
    let text = |text: &str| Value::Str(text.into());
    let one = |key: &str, value: Value| Traits::from([(key.to_owned(), value)]);
    let mut cases = vec![Traits::new()];
    for date in [
        "2024-01-01",
        "1999/01/02",
        "2024-01-01T10:00:00+02:00",
        "2024-01-01 10:00:00.123456",
        "20240101",
        "Jan 1, 2024",
        "10:00:00",
    ] {
        cases.push(one("when", text(date)));
    }
    for number in [i64::MIN, i64::MIN + 1, -1, 0, 1, 10, 1 << 53, (1 << 53) + 1, i64::MAX] {
        cases.push(one("n", Value::Int(number)));
    }
    for digits in [
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        &"9".repeat(60),
    ] {
        cases.push(one("n", Value::int(digits.parse::<BigInt>().unwrap())));
        cases.push(one("n", text(digits)));
    }
    for float in [
        10.0,
        -0.0,
        0.0,
        0.1,
        1e22,
        1e-7,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_993.0,
        123_456_789.123_456_79,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        8.41e21,
    ] {
        cases.push(one("n", Value::Float(float)));
    }
    for words in [
        "",
        "NaN",
        "Infinity",
        "null",
        "true",
        "1",
        "10.0",
        "[1,2]",
        "{\"a\":1}",
        "{\"$int\":\"1\"}",
        "nul\0l",
        "\0",
        "quote\" back\\slash /",
        "tab\tline\nreturn\r",
        "ü 😀 \u{2028} \u{feff} \u{10ffff}",
        "'; DROP TABLE x; --",
        "\u{7f}\u{1}\u{1b}",
        "%d %s ?",
    ] {
        cases.push(one("s", text(words)));
        cases.push(one(words, Value::Int(1)));
    }
    cases.push(one("b", Value::Bool(true)));
    cases.push(one("b", Value::Bool(false)));
    cases.push(one("nothing", Value::Null));
    cases.push(one("n", text("[\"NaN\"]")));
    cases.push(one("long", text(&"x".repeat(2_000))));
    cases.push(one("long.unicode", text(&"ß😀".repeat(1_000))));
    // Keys that are paths, beside their parents, and keys that look like escapes of them.
    let dotted = [
        "a", "a.b", "a.b.c", "a..b", ".", "..", ".a", "a.", "", "a%2Eb", "%2E", "a`b", "$int", "a.$int",
        "^a", "a.:Int64", "a[0]", "a[]",
    ];
    cases.push(dotted.iter().enumerate().map(|(n, key)| ((*key).to_owned(), Value::Int(n as i64))).collect());
    cases.push(dotted.iter().map(|key| ((*key).to_owned(), text(key))).collect());
    cases.push(one(&"d.".repeat(500), Value::Bool(true)));
    cases.push((0..5_000).map(|n| (format!("trait{n}"), Value::Int(n))).collect());
    // The same key with every type, and 1,000 further distinct keys over the table.
    cases.extend((0..1_000).map(|n| one(&format!("key{n}"), text(&format!("value{n}")))));
    cases
}

/// Writes each as an identity of `environment` that is in segment 1.
async fn write(sink: &mut ClickHouseSink, environment: &str, cases: &[Traits]) {
    let mut batch = Vec::new();
    for (id, traits) in (0_i64..).zip(cases) {
        batch.push(of_identity(live(id, environment, id + 1, traits.clone())));
        batch.push(of_change(change(id, environment, id + 1, &["1"], &[])));
    }
    let written = sink.write(&batch).await.unwrap();
    assert_eq!((written.rows, written.rejected.len()), (3 * cases.len() as u64, 0));
}

/// Reads the members of segment 1 back, page by page, by id.
async fn read(server: &ClickHouse, environment: &str) -> BTreeMap<i64, Traits> {
    let mut found = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page =
            reader(server).members(&"1".into(), environment, None, 700, cursor.as_deref()).await.unwrap();
        found.extend(page.members.into_iter().map(|m| (m.id.parse().unwrap(), m.traits)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn every_value_is_read_back_as_it_was() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let cases = edge_cases();
    write(&mut sink, "env1", &cases).await;
    let check = |found: BTreeMap<i64, Traits>, when: &str| {
        assert_eq!(found.len(), cases.len());
        for ((id, found), written) in found.into_iter().zip(&cases) {
            assert_eq!(&found, written, "identity {id} {when}");
        }
    };
    check(read(&server, "env1").await, "as inserted");
    // A second part with other keys, and both become one: values move to the structure for rare keys.
    write(&mut sink, "env2", &cases[..40]).await;
    run(&server, "OPTIMIZE TABLE rollcall.IDENTITIES FINAL").await;
    check(read(&server, "env1").await, "merged");
}

#[tokio::test]
async fn the_platforms_readers_find_paths_and_types() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let traits = Traits::from([
        ("organisation.id".to_owned(), Value::Int(7)),
        ("organisation".to_owned(), Value::Str("acme".into())),
        ("signup".to_owned(), Value::Str("2024-01-01".into())),
        ("ten".to_owned(), Value::Float(10.0)),
        ("big".to_owned(), Value::int("9223372036854775808".parse().unwrap())),
        ("nan".to_owned(), Value::Float(f64::NAN)),
    ]);
    let mut with_system = image("ann", traits);
    with_system.system_traits.insert("signup".into(), Value::Str("1999-12-31".into()));
    let record = identity(1, "env1", 5, IdentityState::Live(with_system));
    sink.write(&[of_identity(record), of_identity(live(2, "env1", 6, Traits::new()))]).await.unwrap();
    let found: Vec<(String, String, String, bool)> = rows(
        &server,
        "SELECT i.identifier, i.identity_key, assumeNotNull(concat_ws('|', toString(i.traits.organisation.id), \
           dynamicType(i.traits.organisation.id), toString(i.traits.organisation), toString(i.traits.signup.:String), \
           dynamicType(i.traits.ten), toString(i.traits.big.:String), dynamicType(i.traits.nan), toString(i.traits.nan))), is_deleted \
         FROM default.IDENTITIES AS i FINAL WHERE environment_id IN ('env1') AND is_deleted = false \
         ORDER BY identifier",
    )
    .await;
    let seen = "7|Int64|acme|1999-12-31|Float64|9223372036854775808|Array(Nullable(String))|['NaN']";
    assert_eq!(found[0], ("ann".into(), "env1_user1".into(), seen.into(), false));
    assert_eq!(found.len(), 2);
    let columns: Vec<(String, String)> = rows(
        &server,
        "SELECT name, type FROM system.columns WHERE database = 'default' AND table = 'IDENTITIES' ORDER BY position",
    )
    .await;
    let names: Vec<_> = columns.iter().map(|c| c.0.as_str()).collect();
    let platform = [
        "environment_id",
        "identifier",
        "identity_key",
        "traits",
        "inserted_at",
        "ingested_at",
        "source",
        "is_deleted",
    ];
    assert_eq!(names, platform);
    assert_eq!(columns[7].1, "Bool");
    assert_eq!(columns[6].1, "LowCardinality(String)");
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1000_i64..1000).prop_map(Value::Int),
        any::<i128>().prop_map(|n| Value::int(n.into())),
        any::<u64>().prop_map(f64::from_bits).prop_map(canonical),
        (-1000_i32..1000).prop_map(|n| Value::Float(f64::from(n) / 4.0)),
        any::<String>().prop_map(Value::Str),
        "[0-9]{4}[-/][01][0-9][-/][0-3][0-9]([T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+]02:00)?)?"
            .prop_map(Value::Str),
        "-?[0-9]{1,25}(\\.[0-9]{1,5})?(e[0-9]{1,2})?".prop_map(Value::Str),
    ]
}

/// A NaN of any bits is the one NaN that a log's JSON knows.
fn canonical(x: f64) -> Value {
    Value::Float(if x.is_nan() { f64::NAN } else { x })
}

fn any_traits() -> impl Strategy<Value = Traits> {
    let key = prop_oneof![any::<String>(), "[ab.%2E$]{0,6}", "[a-c](\\.[a-c]){0,3}"];
    proptest::collection::btree_map(key, any_value(), 0..12)
}

#[test]
fn any_traits_are_read_back_as_they_were() {
    let server = ClickHouse::temporary();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = RefCell::new(runtime.block_on(prepared(&server)));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let round = Cell::new(0);
    let outcome = runner.run(&proptest::collection::vec(any_traits(), 1..120), |cases| {
        // An environment of its own for each round: no row of another case stands in the way.
        round.set(round.get() + 1);
        let environment = format!("env{}", round.get());
        runtime.block_on(write(&mut sink.borrow_mut(), &environment, &cases));
        let found = runtime.block_on(read(&server, &environment));
        for ((_, found), written) in found.iter().zip(&cases) {
            prop_assert_eq!(found, written);
        }
        prop_assert_eq!(found.len(), cases.len());
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn an_image_without_environment_has_no_row() {
    let server = ClickHouse::temporary();
    let mut sink = prepared(&server).await;
    let mut record = live(1, "env1", 1, Traits::new());
    record.environment_key = None;
    let written = sink.write(&[of_identity(record)]).await.unwrap();
    assert_eq!((written.rows, written.rejected.len()), (0, 0));
}
