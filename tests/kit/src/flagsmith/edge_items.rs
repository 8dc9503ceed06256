//! Identities as they stand at the edge: items of `flagsmith_identities`, of every form that the platform writes or has
//! written.

use rand::RngExt;
use rand::rngs::StdRng;
use rollcall_model::{Attribute, Item};

use super::vocabulary::{self, TraitValue, pick};

/// Numbers at the limits of DynamoDB, of the platform's reading and of 64 bits, and in every form that may be written.
const NUMBERS: [&str; 25] = [
    "0",
    "-0",
    "10.0",
    "007.50",
    "1E+2",
    "1.5e-7",
    "-3",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "9007199254740993",
    "9007199254740993.5",
    "99999999999999999999999999999999999999",
    "-0.99999999999999999999999999999999999999",
    "1.2345678901234567890123456789012345678",
    "9.9999999999999999999999999999999999999E+125",
    "-9.9999999999999999999999999999999999999E+125",
    "1E-130",
    "-1E-130",
    "1E+99",
    "1E+100",
    "2E+22",
    "0.1",
];

/// The longest text that the platform takes for a trait.
const TEXT_CHARS_MAX: usize = 2_000;

/// Item number `n` of an environment: `n` alone makes its identifier, everything else comes from `rng`.
pub fn edge_item(rng: &mut StdRng, environment_key: &str, n: usize) -> Item {
    let identifier = identifier(n);
    let mut item = Item::from([
        ("composite_key".to_owned(), text(&format!("{environment_key}_{identifier}"))),
        ("environment_api_key".to_owned(), text(environment_key)),
        ("identifier".to_owned(), text(&identifier)),
        ("identity_uuid".to_owned(), text(&uuid(rng))),
        ("created_date".to_owned(), text("2026-01-01T00:00:00.000000+00:00")),
        ("identity_features".to_owned(), Attribute::L(Vec::new())),
        ("django_id".to_owned(), if rng.random_bool(0.3) { number(&n.to_string()) } else { Attribute::Null }),
    ]);
    let mut put =
        |name: &str, value: Option<Attribute>| item.extend(value.map(|value| (name.to_owned(), value)));
    // Few are without the list: the platform writes it, if empty.
    let traits = rng.random_bool(0.95).then(|| traits(rng));
    put("identity_traits", traits);
    put("system_traits", system_traits(rng));
    put("dashboard_alias", rng.random_bool(0.1).then(|| text(&format!("alias {n}"))));
    item
}

/// Identifiers with and without `_`, that look like numbers, and that aren't ASCII.
fn identifier(n: usize) -> String {
    match n % 6 {
        0 => format!("user-{n}"),
        1 => format!("user_{n}_"),
        2 => n.to_string(),
        3 => format!("Zoë ☃ {n}"),
        4 => format!("00{n}.50"),
        _ => format!("user{n}@example.org"),
    }
}

fn traits(rng: &mut StdRng) -> Attribute {
    let mut entries = Vec::new();
    for _ in 0..rng.random_range(0..8) {
        let key = vocabulary::some_key(rng);
        let value = if rng.random_bool(0.3) { odd_value(rng) } else { usual_value(rng, &key) };
        entries.push(entry(&key, value));
    }
    if !entries.is_empty() && rng.random_bool(0.2) {
        // The same key once more, with another value, somewhere.
        let key = vocabulary::some_key(rng);
        for _ in 0..2 {
            let place = rng.random_range(0..=entries.len());
            let value = usual_value(rng, &key);
            entries.insert(place, entry(&key, value));
        }
    }
    if rng.random_bool(0.1) {
        entries.push(entry(pick(rng, &["", " plan", "PLAN", "plán", "$.identity", "a.b"]), odd_value(rng)));
    }
    Attribute::L(entries)
}

fn system_traits(rng: &mut StdRng) -> Option<Attribute> {
    match rng.random_range(0..10) {
        0..5 => None,
        5 => Some(Attribute::Null),
        6 => Some(Attribute::M(Item::new())),
        _ => {
            let cohort = format!("flagsmith_cohort_{}", uuid(rng));
            let mut traits = Item::from([(cohort, Attribute::Bool(true))]);
            if rng.random_bool(0.3) {
                // Over a trait of the user.
                let key = vocabulary::some_key(rng);
                let value = if rng.random_bool(0.5) { odd_value(rng) } else { usual_value(rng, &key) };
                traits.insert(key, value);
            }
            Some(Attribute::M(traits))
        }
    }
}

/// A value of the type that a key usually has, as the platform writes it.
fn usual_value(rng: &mut StdRng, key: &str) -> Attribute {
    match vocabulary::value(rng, key) {
        TraitValue::Int(n) => number(&n.to_string()),
        TraitValue::Bool(value) => Attribute::Bool(value),
        // DynamoDB has no infinity, and nor has the platform at the edge.
        TraitValue::Float(x) if x.is_finite() => number(&x.to_string()),
        TraitValue::Float(x) => text(&x.to_string()),
        TraitValue::Text(value) => text(&value),
    }
}

fn odd_value(rng: &mut StdRng) -> Attribute {
    match rng.random_range(0..8) {
        0..4 => number(pick(rng, &NUMBERS)),
        4 => Attribute::Null,
        5 => text(""),
        6 => text(&pick(rng, &["x", "ï", "☃", "\u{1f600}"]).repeat(TEXT_CHARS_MAX)),
        _ => text(pick(rng, &["\"", "\\", "\0", "a\nb", "{\"S\": \"x\"}", "None", "1e5", "007", "-1.50"])),
    }
}

fn entry(key: &str, value: Attribute) -> Attribute {
    Attribute::M(Item::from([("trait_key".to_owned(), text(key)), ("trait_value".to_owned(), value)]))
}

fn text(text: &str) -> Attribute {
    Attribute::S(text.to_owned())
}

fn number(text: &str) -> Attribute {
    Attribute::N(text.to_owned())
}

fn uuid(rng: &mut StdRng) -> String {
    let bits: u128 = rng.random();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
