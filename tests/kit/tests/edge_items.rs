//! Items of the edge as the mapper reads them against the platform's own reading, in Python.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_kit::flagsmith::edge_item;
use rollcall_kit::oracle::{ItemReading, read_items};
use rollcall_model::{Attribute, Change, Item, ItemState, Value};
use rollcall_platforms::ItemPlatform;

/// An item by the mapper, in the oracle's terms.
fn reading(item: &Item) -> ItemReading {
    match ItemPlatform::FlagsmithEdge.change(&ItemState::Present(item.clone())) {
        Change::Upsert { image } => ItemReading::Identity {
            environment_key: image.environment_id.to_string(),
            identity_key: format!("{}_{}", image.environment_id, image.identifier),
            identifier: image.identifier,
            traits: image.traits.into_iter().chain(image.system_traits).collect(),
        },
        Change::Invalid { reason, .. } => ItemReading::Unread { unread: key(item), reason },
        Change::Patch { .. } | Change::Delete => panic!("an item that is there is whole or invalid"),
    }
}

fn key(item: &Item) -> String {
    match item.get("composite_key") {
        Some(Attribute::S(key)) => key.clone(),
        Some(_) | None => String::new(),
    }
}

/// Both read it alike, or neither can. How many can't.
async fn assert_read_alike(items: &[Item]) -> usize {
    let mut unread = 0;
    for (item, theirs) in items.iter().zip(read_items(items).await.unwrap()) {
        let ours = reading(item);
        match (&ours, &theirs) {
            (ItemReading::Unread { .. }, ItemReading::Unread { .. }) => unread += 1,
            (ItemReading::Identity { .. }, _) | (_, ItemReading::Identity { .. }) => {
                assert_eq!(ours, theirs, "{}", serde_json::to_string(item).unwrap());
            }
        }
    }
    unread
}

fn items(seed: u64, count: usize) -> Vec<Item> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|n| edge_item(&mut rng, "env_key", n)).collect()
}

#[test]
fn a_seed_repeats_its_items_and_every_item_has_a_key_of_its_own() {
    let first = items(7, 2_000);
    assert_eq!(first, items(7, 2_000));
    assert_ne!(first, items(8, 2_000));
    assert_eq!(first.iter().map(key).collect::<BTreeSet<_>>().len(), first.len());
}

#[tokio::test]
async fn generated_items_are_read_as_the_platform_reads_them() {
    let items = items(20_260_901, 3_000);
    assert_eq!(assert_read_alike(&items).await, 0, "the generator makes readable items alone");
    // The fixture says something: every kind of value is met.
    let mut kinds = BTreeSet::new();
    for item in &items {
        let ItemReading::Identity { traits, .. } = reading(item) else { panic!("readable") };
        kinds.extend(traits.values().map(|value| match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::BigInt(_) => "big",
            Value::Float(_) => "float",
            Value::Str(_) => "text",
        }));
    }
    assert_eq!(kinds, ["null", "bool", "int", "big", "float", "text"].into());
}

#[tokio::test]
async fn numbers_of_any_form_are_read_as_the_platform_reads_them() {
    let mut rng = StdRng::seed_from_u64(5);
    let items: Vec<Item> = (0..5_000).map(|_| one_trait(Attribute::N(number(&mut rng)))).collect();
    let unread = assert_read_alike(&items).await;
    assert!((100..4_000).contains(&unread), "{unread} of them are beyond the limits");
}

fn number(rng: &mut StdRng) -> String {
    let digits = |rng: &mut StdRng, count: usize| -> String {
        (0..count).map(|_| char::from(b'0' + rng.random_range(0..10_u8))).collect()
    };
    let zeros =
        |rng: &mut StdRng| "0".repeat(if rng.random_bool(0.7) { 0 } else { rng.random_range(0..110) });
    let mut text = ["", "-", "+"][rng.random_range(0..3)].to_owned();
    text += &zeros(rng);
    let count = rng.random_range(1..20);
    text += &digits(rng, count);
    text += &zeros(rng);
    if rng.random_bool(0.5) {
        let count = rng.random_range(0..22);
        text.push('.');
        text += &zeros(rng);
        text += &digits(rng, count);
    }
    if rng.random_bool(0.4) {
        text += &format!("{}{}", ["e", "E", "e+"][rng.random_range(0..3)], rng.random_range(0..140));
    } else if rng.random_bool(0.3) {
        text += &format!("e-{}", rng.random_range(0..140));
    }
    text
}

fn one_trait(value: Attribute) -> Item {
    let mut item = items(1, 1).remove(0);
    let entry = Item::from([
        ("trait_key".to_owned(), Attribute::S("k".to_owned())),
        ("trait_value".to_owned(), value),
    ]);
    item.insert("identity_traits".to_owned(), Attribute::L(vec![Attribute::M(entry)]));
    item
}

#[tokio::test]
async fn an_item_that_is_spoilt_somewhere_is_read_alike_or_by_neither() {
    let mut rng = StdRng::seed_from_u64(6);
    let mut spoilt = items(9, 3_000);
    for item in &mut spoilt {
        let names: Vec<String> = item.keys().cloned().collect();
        let name = names[rng.random_range(0..names.len())].clone();
        let inner = item.get_mut(&name).unwrap();
        match (inner, rng.random_range(0..3)) {
            (_, 0) => {
                item.remove(&name);
            }
            (Attribute::L(entries), 1) if !entries.is_empty() => {
                let place = rng.random_range(0..entries.len());
                spoil_entry(&mut rng, &mut entries[place]);
            }
            (Attribute::M(entries), 1) => {
                entries.insert("odd".to_owned(), odd(&mut rng));
            }
            (inner, _) => *inner = odd(&mut rng),
        }
    }
    let unread = assert_read_alike(&spoilt).await;
    assert!((500..2_500).contains(&unread), "{unread} of 3,000 can't be read");
}

fn spoil_entry(rng: &mut StdRng, entry: &mut Attribute) {
    let name = ["trait_key", "trait_value", "more"][rng.random_range(0..3)].to_owned();
    if let Attribute::M(fields) = entry
        && rng.random_bool(0.9)
    {
        if rng.random_bool(0.3) {
            fields.remove(&name);
        } else {
            fields.insert(name, odd(rng));
        }
    } else {
        *entry = odd(rng);
    }
}

fn odd(rng: &mut StdRng) -> Attribute {
    match rng.random_range(0..11) {
        0 => Attribute::Null,
        1 => Attribute::Bool(true),
        2 => Attribute::S("odd".to_owned()),
        3 => Attribute::N("1.50".to_owned()),
        4 => Attribute::N("1e126".to_owned()),
        5 => Attribute::B("AA==".to_owned()),
        6 => Attribute::L(vec![Attribute::S("a".to_owned())]),
        7 => Attribute::M(Item::new()),
        8 => Attribute::Ss(vec!["a".to_owned()]),
        9 => Attribute::Ns(vec!["1".to_owned()]),
        _ => Attribute::Unknown("VEC".to_owned()),
    }
}
