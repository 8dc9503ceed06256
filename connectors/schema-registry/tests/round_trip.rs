//! Every record comes back as it was: the samples of every kind, and identities that nobody thought of.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rollcall_kit::{RegistryDouble, samples};
use rollcall_model::{IdentityRecord, IdentityState, Image, NativeId, Topic, Traits, Value};
use rollcall_schema_registry::{AvroCodec, RegistryConfig};
use serde_json::Value as Json;

async fn codec(registry: &RegistryDouble) -> AvroCodec {
    AvroCodec::connect(RegistryConfig::new(registry.url()), "rollcall").await.unwrap()
}

fn json(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

/// To Avro and back; the bytes between.
fn round(codec: &AvroCodec, topic: Topic, key: &str, record: &[u8]) -> Vec<u8> {
    let bytes = codec.encode(topic, key.as_bytes(), record.to_vec()).unwrap();
    assert_eq!(codec.unknown_schema(&bytes), None);
    let back = codec.decode(topic, key.as_bytes(), bytes.clone()).unwrap();
    assert_eq!(json(&back), json(record), "{} {key}", topic.name());
    bytes
}

#[tokio::test]
async fn every_kind_of_record_comes_back() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = codec(&registry).await;
    let mut bytes = (0, 0);
    for (topic, key, record) in samples::public_records() {
        let avro = round(&codec, topic, &key, &record);
        assert_eq!(avro[0], 0, "{} {key} is not Avro", topic.name());
        bytes = (bytes.0 + record.len(), bytes.1 + avro.len());
    }
    assert!(bytes.1 < bytes.0, "Avro is longer than JSON: {bytes:?}");
}

#[tokio::test]
async fn what_avro_has_no_type_for_comes_back_too() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = codec(&registry).await;
    let identity = serde_json::to_value(&samples::identities()[0]).unwrap();
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for odd in [
        "18446744073709551615",
        "-0",
        "-0.0",
        "0.1",
        "1e300",
        "5e-324",
        r#"{"$float": "NaN"}"#,
        r#"{"$float": "nan"}"#,
        r#"{"$float": "NaN", "more": 1}"#,
        r#"{"$int": "-9223372036854775809"}"#,
        r#"{"nested": [1, {"deeper": null}], "text": "é\u0000"}"#,
        "[]",
        "{}",
    ] {
        let mut identity = identity.clone();
        identity["traits"]["odd"] = serde_json::from_str(odd).unwrap();
        round(&codec, Topic::Identities, "core/1", identity.to_string().as_bytes());
    }
    // Deeper than a parser that recurs goes; it is carried as it stands.
    let text = samples::public_records();
    let (_, key, record) = text.iter().find(|(topic, ..)| *topic == Topic::Quarantine).unwrap();
    let record = String::from_utf8(record.clone()).unwrap();
    let record = record.replace(r#"{"any":["thing",null,1.0,18446744073709551615]}"#, &deep);
    assert!(record.contains(&deep));
    let bytes = codec.encode(Topic::Quarantine, key.as_bytes(), record.clone().into_bytes()).unwrap();
    assert_eq!(codec.decode(Topic::Quarantine, key.as_bytes(), bytes).unwrap(), record.into_bytes());
}

#[tokio::test]
async fn what_stays_json_passes_untouched() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = codec(&registry).await;
    let record = br#"{"kind":  "watermark"}"#.to_vec();
    for (topic, key) in [
        (Topic::IdentityChanges, "control/"),
        (Topic::IdentityChanges, "core/1"),
        (Topic::CatalogRows, "core/t/1"),
        (Topic::Progress, "task"),
        (Topic::Checks, "c/roster/1"),
        // Of a version to come.
        (Topic::MembershipChanges, "control/later"),
    ] {
        assert_eq!(codec.encode(topic, key.as_bytes(), record.clone()).unwrap(), record);
        assert_eq!(codec.decode(topic, key.as_bytes(), record.clone()).unwrap(), record);
    }
    // Written before the setting was turned on.
    let old = &samples::public_records()[0];
    assert_eq!(codec.decode(old.0, old.1.as_bytes(), old.2.clone()).unwrap(), old.2);
}

#[tokio::test]
async fn what_the_schema_does_not_know_is_refused_not_dropped() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = codec(&registry).await;
    for (topic, key, record) in samples::public_records() {
        let Json::Object(fields) = json(&record) else { panic!("no object") };
        let mut more = fields.clone();
        more.insert("surprise".to_owned(), Json::from(1));
        let more = serde_json::to_vec(&more).unwrap();
        let fault = codec.encode(topic, key.as_bytes(), more).unwrap_err();
        assert!(fault.to_string().contains("a field that the schema doesn't know"), "{fault}");
        for name in fields.keys() {
            // Absent: refused, or it comes back absent.
            let mut fewer = fields.clone();
            fewer.remove(name);
            let fewer = serde_json::to_vec(&fewer).unwrap();
            if let Ok(bytes) = codec.encode(topic, key.as_bytes(), fewer.clone()) {
                assert_eq!(json(&codec.decode(topic, key.as_bytes(), bytes).unwrap()), json(&fewer));
            }
            // Null: refused, or it comes back null.
            let mut null = fields.clone();
            null.insert(name.clone(), Json::Null);
            let null = serde_json::to_vec(&null).unwrap();
            if let Ok(bytes) = codec.encode(topic, key.as_bytes(), null.clone()) {
                assert_eq!(json(&codec.decode(topic, key.as_bytes(), bytes).unwrap()), json(&null));
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_are_cut_or_changed_never_pass_for_another_record() {
    let registry = RegistryDouble::start().await.unwrap();
    let codec = codec(&registry).await;
    for (topic, key, record) in samples::public_records() {
        let bytes = codec.encode(topic, key.as_bytes(), record).unwrap();
        for end in 1..bytes.len() {
            let cut = codec.decode(topic, key.as_bytes(), bytes[..end].to_vec());
            assert!(cut.is_err(), "{} cut at {end} of {}", topic.name(), bytes.len());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(codec.decode(topic, key.as_bytes(), longer).is_err());
        // Whatever a byte is changed to: an answer or a fault, no panic, and no endless list.
        for at in 5..bytes.len() {
            for with in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] = with;
                if let Ok(read) = codec.decode(topic, key.as_bytes(), wrong) {
                    let _ = json(&read);
                }
            }
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<i128>().prop_map(|n| Value::int(n.into())),
        any::<f64>().prop_map(|x| Value::Float(if x.is_nan() { f64::NAN } else { x })),
        prop::num::f64::ANY.prop_map(|x| Value::Float(if x.is_nan() { f64::NAN } else { x })),
        any::<String>().prop_map(Value::Str),
    ]
}

fn traits() -> impl Strategy<Value = Traits> {
    prop::collection::btree_map(any::<String>(), value(), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_identity_comes_back(
        traits in traits(),
        system_traits in traits(),
        identifier in any::<String>(),
        text_id in any::<Option<String>>(),
        offset in any::<u64>(),
        version in any::<i64>(),
    ) {
        thread_local! {
            // One registry for all cases: it is asked at connect only, and the codec does no I/O afterwards.
            static CODEC: AvroCodec = tokio::runtime::Runtime::new().unwrap().block_on(async {
                codec(&RegistryDouble::start().await.unwrap()).await
            });
        }
        let sample = samples::identities().remove(0);
        let record = IdentityRecord {
            id: text_id.map_or(NativeId::Int(version), |text| NativeId::Text(text.into())),
            version: rollcall_model::Version(version),
            place: rollcall_model::Place { epoch: 1, offset },
            state: IdentityState::Live(Image { environment_id: "7".into(), identifier, traits, system_traits }),
            ..sample
        };
        let text = serde_json::to_vec(&record).unwrap();
        CODEC.with(|codec| {
            let bytes = codec.encode(Topic::Identities, b"core/1", text.clone()).unwrap();
            let back = codec.decode(Topic::Identities, b"core/1", bytes).unwrap();
            assert_eq!(json(&back), json(&text));
            assert_eq!(serde_json::from_slice::<IdentityRecord>(&back).unwrap(), record);
        });
    }
}
