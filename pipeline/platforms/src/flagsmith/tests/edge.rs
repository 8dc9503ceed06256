//! Items of the edge, by what stands in them.

use rollcall_model::{Attribute, Change, Image, Item, ItemState, Value};
use serde_json::json;

use super::super::edge::{ITEM_BYTES_MAX, RAW_BYTES_MAX};
use crate::ItemPlatform;

fn item(json: serde_json::Value) -> Item {
    serde_json::from_value(json).unwrap()
}
fn base() -> Item {
    item(json!({
        "composite_key": {"S": "env_1_us_er"},
        "environment_api_key": {"S": "env_1"},
        "identifier": {"S": "us_er"},
        "identity_uuid": {"S": "0b3b6f2c-3f6f-4dd8-8c37-96b0b7b1c4a2"},
        "created_date": {"S": "2026-01-01T00:00:00+00:00"},
        "identity_features": {"L": []},
        "identity_traits": {"L": []},
        "django_id": {"NULL": true}
    }))
}
fn with(name: &str, value: serde_json::Value) -> Item {
    let mut item = base();
    item.insert(name.to_owned(), serde_json::from_value(value).unwrap());
    item
}
fn traits(entries: serde_json::Value) -> Item {
    with("identity_traits", json!({ "L": entries }))
}
fn one_trait(value: serde_json::Value) -> Item {
    traits(json!([{"M": {"trait_key": {"S": "plan"}, "trait_value": value}}]))
}
fn change(item: Item) -> Change {
    ItemPlatform::FlagsmithEdge.change(&ItemState::Present(item))
}
fn image(item: Item) -> Image {
    let change = change(item);
    let Change::Upsert { image } = change else { panic!("expected an upsert, got {change:?}") };
    image
}
fn invalid(item: Item) -> (String, String) {
    let change = change(item);
    let Change::Invalid { reason, raw } = change else {
        panic!("expected an invalid change, got {change:?}")
    };
    (reason, raw)
}

#[test]
fn the_platform_is_found_by_its_name_and_says_where_its_keys_stand() {
    for name in ItemPlatform::NAMES {
        let platform = ItemPlatform::by_name(name).unwrap();
        assert_eq!(platform.key(), "composite_key");
        assert_eq!(platform.environment(), ("environment_api_key", "environment_api_key-identifier-index"));
    }
    assert_eq!(ItemPlatform::by_name("other"), None);
}

#[test]
fn an_item_is_a_whole_image_under_the_environment_that_its_attribute_names() {
    let image = image(traits(json!([
        {"M": {"trait_key": {"S": "plan"}, "trait_value": {"S": "growth"}}},
        {"M": {"trait_key": {"S": "age"}, "trait_value": {"N": "40"}, "later": {"S": "ignored"}}},
        {"M": {"trait_key": {"S": "beta"}, "trait_value": {"BOOL": false}}},
        {"M": {"trait_key": {"S": ""}, "trait_value": {"S": ""}}},
        {"M": {"trait_key": {"S": "none"}, "trait_value": {"NULL": true}}},
        {"M": {"trait_key": {"S": "007"}, "trait_value": {"S": "007"}}}
    ])));
    assert_eq!((image.environment_id.as_str(), image.identifier.as_str()), ("env_1", "us_er"));
    let expected = [
        ("plan", Value::Str("growth".into())),
        ("age", Value::Int(40)),
        ("beta", Value::Bool(false)),
        ("", Value::Str(String::new())),
        ("none", Value::Null),
        ("007", Value::Str("007".into())),
    ];
    assert_eq!(image.traits, expected.map(|(key, value)| (key.to_owned(), value)).into());
    assert!(image.system_traits.is_empty());
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts_and_both_must_be_readable() {
    let entry = |value| json!({"M": {"trait_key": {"S": "plan"}, "trait_value": value}});
    let last = image(traits(json!([entry(json!({"N": "1"})), entry(json!({"NULL": true}))])));
    assert_eq!(last.traits, [("plan".to_owned(), Value::Null)].into());
    let (reason, _) = invalid(traits(json!([entry(json!({"L": []})), entry(json!({"N": "1"}))])));
    assert!(reason.contains("'plan'"), "{reason}");
}

#[test]
fn system_traits_are_none_when_absent_null_or_empty_and_stand_apart_from_traits() {
    for item in
        [base(), with("system_traits", json!({"NULL": true})), with("system_traits", json!({"M": {}}))]
    {
        assert!(image(item).system_traits.is_empty());
    }
    let mut item = one_trait(json!({"S": "user"}));
    let system = json!({"M": {
        "plan": {"N": "1.0"}, "flagsmith_cohort_x": {"BOOL": true}, "s": {"S": "t"}, "n": {"NULL": true}
    }});
    item.insert("system_traits".to_owned(), serde_json::from_value(system).unwrap());
    let image = image(item);
    assert_eq!(image.traits["plan"], Value::Str("user".into()));
    assert_eq!(image.system_traits["plan"], Value::Int(1));
    assert_eq!(image.system_traits["flagsmith_cohort_x"], Value::Bool(true));
    assert_eq!(image.system_traits["s"], Value::Str("t".into()));
    assert_eq!(image.system_traits["n"], Value::Null);
}

#[test]
fn traits_may_be_absent_and_what_is_not_judged_by_may_be_anything() {
    let mut bare = base();
    bare.retain(|name, _| ["composite_key", "environment_api_key", "identifier"].contains(&name.as_str()));
    assert!(image(bare).traits.is_empty());
    for django_id in [json!({"N": "7"}), json!({"S": "x"}), json!({"L": []})] {
        assert_eq!(image(with("django_id", django_id)), image(base()));
    }
    let mut later = with("created_date", json!({"N": "1"}));
    later.insert("new".to_owned(), Attribute::Unknown("VEC".to_owned()));
    assert_eq!(image(later), image(base()));
    // A key that isn't made of the two attributes names the item all the same.
    assert_eq!(image(with("composite_key", json!({"S": "other"}))), image(base()));
}

#[test]
fn gone_is_gone_and_broken_says_why() {
    let platform = ItemPlatform::FlagsmithEdge;
    assert_eq!(platform.change(&ItemState::Absent), Change::Delete);
    assert_eq!(
        platform.change(&ItemState::Broken("line 7 is no JSON".into())),
        Change::Invalid { reason: "line 7 is no JSON".into(), raw: String::new() }
    );
}

#[test]
fn an_item_without_its_names_is_invalid_by_the_attribute() {
    for name in ["composite_key", "environment_api_key", "identifier"] {
        let mut item = base();
        item.remove(name);
        let (reason, raw) = invalid(item.clone());
        assert_eq!(reason, format!("its attribute {name} is missing"));
        assert_eq!(serde_json::from_str::<Item>(&raw).unwrap(), item);
        for (value, of) in
            [(json!({"N": "1"}), "N"), (json!({"NULL": true}), "NULL"), (json!({"B": ""}), "B")]
        {
            let (reason, _) = invalid(with(name, value));
            assert_eq!(reason, format!("its attribute {name} is of type {of}, not S"));
        }
    }
}

#[test]
fn a_value_of_another_type_is_invalid_by_attribute_and_trait() {
    let values = [
        (json!({"L": [{"S": "a"}]}), "of type L"),
        (json!({"M": {}}), "of type M"),
        (json!({"B": "AA=="}), "of type B"),
        (json!({"SS": ["a"]}), "of type SS"),
        (json!({"NS": ["1"]}), "of type NS"),
        (json!({"BS": ["AA=="]}), "of type BS"),
        (json!({"VEC": [1]}), "of type VEC"),
        (json!({"N": "1e126"}), "holds '1e126'"),
        (json!({"N": "many"}), "holds 'many'"),
    ];
    for (value, said) in values {
        let (reason, _) = invalid(one_trait(value.clone()));
        assert!(reason.contains("'plan' in identity_traits") && reason.contains(said), "{reason}");
        let (reason, _) = invalid(with("system_traits", json!({"M": {"sys": value}})));
        assert!(reason.contains("'sys' in system_traits") && reason.contains(said), "{reason}");
    }
}

#[test]
fn an_entry_of_another_shape_is_invalid_by_its_place() {
    let good = json!({"M": {"trait_key": {"S": "a"}, "trait_value": {"S": "b"}}});
    let cases = [
        (json!({"S": "x"}), "identity_traits[1] is of type S, not M"),
        (json!({"M": {"trait_value": {"S": "x"}}}), "trait_key is missing in identity_traits[1]"),
        (json!({"M": {"trait_key": {"N": "1"}, "trait_value": {"S": "x"}}}), "trait_key is of type N"),
        (json!({"M": {"trait_key": {"S": "plan"}}}), "ensure_identity_traits_blanks"),
    ];
    for (entry, said) in cases {
        let (reason, _) = invalid(traits(json!([good, entry])));
        assert!(reason.contains(said), "{reason}");
    }
    for value in [json!({"NULL": true}), json!({"M": {}}), json!({"SS": ["a"]})] {
        let (reason, _) = invalid(with("identity_traits", value));
        assert!(reason.starts_with("its attribute identity_traits is of type"), "{reason}");
    }
    let (reason, _) = invalid(with("system_traits", json!({"L": []})));
    assert_eq!(reason, "its attribute system_traits is of type L, neither M nor NULL");
}

#[test]
fn the_largest_item_is_read_and_a_larger_one_is_not() {
    // `ï` is two bytes: names and texts are counted in UTF-8.
    let mut item = one_trait(json!({"S": ""}));
    item.insert("dashboard_alias".to_owned(), Attribute::S(String::new()));
    let used = ITEM_BYTES_MAX - free_bytes(&item);
    assert!(used < 1_000);
    let fill = "ï".repeat((ITEM_BYTES_MAX - used) / 2) + &"x".repeat((ITEM_BYTES_MAX - used) % 2);
    item.insert("dashboard_alias".to_owned(), Attribute::S(fill.clone()));
    image(item.clone());
    item.insert("dashboard_alias".to_owned(), Attribute::S(fill + "x"));
    let (reason, raw) = invalid(item);
    assert!(reason.contains("409601 bytes"), "{reason}");
    assert!(raw.len() <= RAW_BYTES_MAX + 64 && raw.ends_with("bytes in all"), "{}", raw.len());
}

/// What is left of the largest item, found by what the mapper still takes.
fn free_bytes(item: &Item) -> usize {
    let fits = |bytes: usize| {
        let mut item = item.clone();
        item.insert("dashboard_alias".to_owned(), Attribute::S("x".repeat(bytes)));
        matches!(change(item), Change::Upsert { .. })
    };
    let (mut low, mut high) = (0, ITEM_BYTES_MAX + 1);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

#[test]
fn a_number_of_many_zeros_is_as_small_as_dynamodb_counts_it() {
    // 1E+99 takes 100 characters as it comes back and three bytes there: 6,000 of them are no large item.
    let number = format!("1{}", "0".repeat(99));
    let entry = json!({"M": {"trait_key": {"S": "k"}, "trait_value": {"N": number}}});
    assert_eq!(image(traits(json!(vec![entry; 6_000]))).traits.len(), 1);
}

#[test]
fn what_a_reason_repeats_is_short_and_whole_characters() {
    let key = "ï".repeat(5_000);
    let entry = json!([{"M": {"trait_key": {"S": key}, "trait_value": {"L": []}}}]);
    let (reason, raw) = invalid(traits(entry));
    assert!(reason.chars().count() < 400, "{reason}");
    assert!(raw.starts_with("{\"composite_key\""));
    let (reason, _) = invalid(one_trait(json!({ "x".repeat(9_000): 1 })));
    assert!(reason.len() < 400, "{reason}");
}
