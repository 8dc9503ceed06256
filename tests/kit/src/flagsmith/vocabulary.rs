//! The traits that identities have and the conditions that segments set on them: chosen so that every operator meets
//! values it matches and values it doesn't, of every type.

use rand::RngExt;
use rand::rngs::StdRng;

use super::segments::Condition;

/// Every operator of the platform.
pub const OPERATORS: [&str; 14] = [
    "EQUAL",
    "NOT_EQUAL",
    "GREATER_THAN",
    "GREATER_THAN_INCLUSIVE",
    "LESS_THAN",
    "LESS_THAN_INCLUSIVE",
    "CONTAINS",
    "NOT_CONTAINS",
    "REGEX",
    "IN",
    "IS_SET",
    "IS_NOT_SET",
    "MODULO",
    "PERCENTAGE_SPLIT",
];

/// A trait's value, as the platform stores it.
#[derive(Clone, PartialEq, Debug)]
pub enum TraitValue {
    /// `int`
    Int(i32),
    /// `float`
    Float(f64),
    /// `bool`
    Bool(bool),
    /// `unicode`
    Text(String),
}

impl TraitValue {
    /// `value_type`.
    #[must_use]
    pub fn value_type(&self) -> &'static str {
        match self {
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bool(_) => "bool",
            Self::Text(_) => "unicode",
        }
    }
    /// The typed columns in the order boolean, integer, string, float.
    #[must_use]
    pub fn columns(&self) -> (Option<bool>, Option<i32>, Option<&str>, Option<f64>) {
        match self {
            Self::Bool(b) => (Some(*b), None, None, None),
            Self::Int(n) => (None, Some(*n), None, None),
            Self::Text(text) => (None, None, Some(text), None),
            Self::Float(x) => (None, None, None, Some(*x)),
        }
    }
}

/// The trait keys that segments speak of.
const KEYS: [&str; 12] = [
    "plan",
    "age",
    "beta",
    "score",
    "country",
    "logins",
    "version",
    "signup",
    "email",
    "code",
    "company.id",
    "note",
];

/// A trait key by number; beyond the known ones `extra_12`, `extra_13`, …
pub(super) fn key(number: usize) -> String {
    KEYS.get(number).map_or_else(|| format!("extra_{number}"), |key| (*key).to_owned())
}

/// Some key that segments speak of.
pub(super) fn some_key(rng: &mut StdRng) -> String {
    pick(rng, &KEYS).to_owned()
}

/// One of them.
pub(super) fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// A value of the type that a key usually has.
pub(super) fn value(rng: &mut StdRng, key: &str) -> TraitValue {
    let text = |text: &str| TraitValue::Text(text.to_owned());
    match key {
        "plan" => text(pick(rng, &["free", "growth", "scale", "enterprise", "Growth"])),
        "age" => TraitValue::Int(rng.random_range(16..70)),
        "beta" => TraitValue::Bool(rng.random_bool(0.5)),
        "score" => TraitValue::Float(pick(rng, &[0.5, 1.0, 2.5, 3.5, 10.0, -3.0, 1e22, f64::INFINITY])),
        "country" => text(pick(rng, &["DE", "FR", "IT", "GB", "ÖS"])),
        "logins" => TraitValue::Int(pick(rng, &[0, 1, 3, 10, 17, 24, 365, -4, i32::MAX, i32::MIN])),
        "version" => text(pick(rng, &["1.4.2", "1.4.10", "2.0.0-rc.1", "2.0.0", "1.4", "v1.4.2"])),
        "signup" => TraitValue::Text(format!(
            "202{}-{:02}-{:02}",
            rng.random_range(2..6),
            rng.random_range(1..13),
            rng.random_range(1..29)
        )),
        "email" => TraitValue::Text(format!(
            "user{}@example.{}",
            rng.random_range(0..500),
            pick(rng, &["org", "net", "com"])
        )),
        "code" => text(pick(rng, &["007", "7", "42", "1.50", "-0", "1e1", "0x7", ""])),
        "company.id" => TraitValue::Int(rng.random_range(1..6)),
        "note" => {
            text(pick(rng, &["", "naïve ☃", "it's \"quoted\"", "back\\slash", "a\nb\tc", "None", "True"]))
        }
        _ => TraitValue::Text(format!("x{}", rng.random_range(0..100))),
    }
}

/// A value of any type, for keys that change theirs.
pub(super) fn any_value(rng: &mut StdRng) -> TraitValue {
    let key = some_key(rng);
    value(rng, &key)
}

/// A condition with this operator.
pub(super) fn condition(rng: &mut StdRng, operator: &'static str) -> Condition {
    let (property, value) = match operator {
        "EQUAL" | "NOT_EQUAL" => pick(
            rng,
            &[
                ("plan", "growth"),
                ("plan", "free"),
                ("age", "40"),
                ("age", "40.0"),
                ("age", " 40 "),
                ("beta", "true"),
                ("beta", "False"),
                ("score", "2.5"),
                ("score", "1e1"),
                ("code", "7"),
                ("version", "1.4.2:semver"),
                ("company.id", "3"),
                ("note", ""),
                ("country", "ÖS"),
                ("$.environment.name", "Environment 1"),
                ("$.identity.traits.plan", "scale"),
            ],
        ),
        "GREATER_THAN" | "GREATER_THAN_INCLUSIVE" | "LESS_THAN" | "LESS_THAN_INCLUSIVE" => pick(
            rng,
            &[
                ("age", "40"),
                ("age", "9.5"),
                ("score", "3.5"),
                ("logins", "17"),
                ("signup", "2024-06-01"),
                ("version", "1.4.2:semver"),
                ("version", "2.0.0:semver"),
                ("plan", "g"),
                ("beta", "false"),
                ("code", "10"),
            ],
        ),
        "CONTAINS" | "NOT_CONTAINS" => pick(
            rng,
            &[
                ("email", "@example.org"),
                ("plan", "row"),
                ("note", "ï"),
                ("note", "\\"),
                ("age", "1"),
                ("code", "0"),
                ("$.identity.identifier", "7"),
            ],
        ),
        "REGEX" => pick(
            rng,
            &[
                ("email", r"^user\d*@example\.(org|net)$"),
                ("plan", "g.*h"),
                ("age", r"[2-4]\d"),
                ("version", r"1\.4"),
                ("beta", "T"),
                ("note", r"(?s).*\\"),
                ("$.identity.identifier", r"user-\d*[02468]$"),
                ("plan", "(?=.*al)"),
            ],
        ),
        "IN" => pick(
            rng,
            &[
                ("plan", "growth,scale"),
                ("plan", r#"["free", "growth"]"#),
                ("age", "20,21,22,30,31,40,41"),
                ("age", "[18, 19, 33, 50]"),
                ("country", "DE,FR, IT"),
                ("code", "7,42,"),
                ("$.identity.identifier", "user-1,user-2,user-77"),
                ("$.environment.key", "env-key-1,env-key-2"),
            ],
        ),
        "MODULO" => pick(
            rng,
            &[
                ("age", "3|0"),
                ("age", "2|1"),
                ("logins", "7|3"),
                ("score", "0.5|0"),
                ("plan", "2|0"),
                ("age", "x|0"),
            ],
        ),
        "PERCENTAGE_SPLIT" => pick(
            rng,
            &[
                ("", "10"),
                ("", "33.3"),
                ("", "50"),
                ("", "50%"),
                ("plan", "60"),
                ("score", "50"),
                ("$.identity.key", "25"),
                ("$.identity.identifier", "40"),
            ],
        ),
        _ => return Condition { operator, property: Some(some_key(rng)), value: Some(String::new()) },
    };
    Condition {
        operator,
        // The platform stores a blank property as NULL.
        property: (!property.is_empty()).then(|| property.to_owned()),
        value: Some(value.to_owned()),
    }
}

/// Conditions that the reference raises on for some identity, or that this version doesn't know: operator, property,
/// operand.
pub(super) const RAISING: [(&str, &str, &str); 4] = [
    ("REGEX", "plan", "[unclosed"),
    ("MODULO", "age", "0|1"),
    ("SOUNDS_LIKE", "plan", "groth"),
    ("EQUAL", "$.flags.dark_mode.enabled", "true"),
];
