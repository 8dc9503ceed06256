//! Trait values as ClickHouse's JSON type holds them, and back.
//!
//! ```text
//! Traits ──trait_texts──▶ traits         {"plan":"pro","a.b":1,"big":"9223372036854775808","x":["NaN"]}   what readers query
//!                         traits_tagged  {"big":{"$int":"9223372036854775808"},"gone":null}    mostly empty
//! Traits ◀──read_traits── traits as text, its paths' types, traits_tagged
//! ```
//!
//! - A trait is a scalar, so the JSON object is flat and a key is a path as it stands: `a.b` arrives as the path `a.b`
//!   that readers write as `traits.a.b`, beside a trait `a`, and no two keys can share a path. So keys need no
//!   escaping; `json_type_escape_dots_in_keys` must be off, or the path would be `a%2Eb`, which readers don't find and
//!   which collides with a key of that very text.
//! - Integers beyond 64 bits stand as text, as the platform's own writers do, and to the rules such text is the int;
//!   null has no path at all. What they were stands in `traits_tagged`, in the model's tagged form.
//! - NaN and the infinities, for which JSON has no number, stand as an array of their name. No trait is an array, so
//!   `"NaN"` the text and NaN the float stay two things, for predicates too, which read this column alone (ADR 6).
//! - `10.0` is stored as `Float64` and shown as `10`: the type of the path tells it from the integer.
//! - System traits win over traits of the same key, as they do when the identity is judged; alone they stand in
//!   `system_traits`.

use std::collections::BTreeMap;
use std::fmt;

use rollcall_model::{Image, NonFinite, Traits, Value};
use serde::de::{self, Deserialize, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::value::RawValue;

/// An image's traits, as text of three columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraitTexts {
    /// What readers query: a JSON object of scalars.
    pub traits: String,
    /// What `traits` can't say exactly, in the model's tagged form; empty when there is none.
    pub tagged: String,
    /// The system traits alone, in the model's form; empty when there are none.
    pub system: String,
}

/// Traits of a row that are not what this crate wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraitsError(String);

impl fmt::Display for TraitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stored traits can't be read: {}", self.0)
    }
}

impl std::error::Error for TraitsError {}

impl From<serde_json::Error> for TraitsError {
    fn from(error: serde_json::Error) -> Self {
        // The message of serde_json names a place and a kind, no values.
        Self(error.to_string())
    }
}

/// The texts of an image's traits.
///
/// # Errors
/// None that outside input can cause; the writer's, if it ever had one.
pub fn trait_texts(image: &Image) -> Result<TraitTexts, TraitsError> {
    let mut texts = TraitTexts { traits: String::from("{"), ..TraitTexts::default() };
    let plain = image.traits.iter().filter(|(key, _)| !image.system_traits.contains_key(*key));
    for (key, value) in plain.chain(&image.system_traits) {
        match queried_form(value) {
            Queried::Itself => push_entry(&mut texts.traits, key, value)?,
            Queried::Array(float) => push_entry(&mut texts.traits, key, &[float.text()])?,
            Queried::As(text) => {
                push_entry(&mut texts.traits, key, &Value::Str(text))?;
                push_tagged(&mut texts.tagged, key, value)?;
            }
            Queried::Absent => push_tagged(&mut texts.tagged, key, value)?,
        }
    }
    texts.traits.push('}');
    if !texts.tagged.is_empty() {
        texts.tagged.push('}');
    }
    if !image.system_traits.is_empty() {
        texts.system = serde_json::to_string(&image.system_traits)?;
    }
    Ok(texts)
}

/// How a value stands in `traits`.
enum Queried {
    Itself,
    Array(NonFinite),
    As(String),
    Absent,
}

fn queried_form(value: &Value) -> Queried {
    match value {
        Value::Bool(_) | Value::Int(_) | Value::Str(_) => Queried::Itself,
        Value::Float(x) => NonFinite::of(*x).map_or(Queried::Itself, Queried::Array),
        Value::BigInt(n) => Queried::As(n.to_string()),
        Value::Null => Queried::Absent,
    }
}

fn push_tagged(object: &mut String, key: &str, value: &Value) -> Result<(), TraitsError> {
    if object.is_empty() {
        object.push('{');
    }
    push_entry(object, key, value)
}

/// Adds an entry to an object that begins with its brace and has no end yet.
fn push_entry(object: &mut String, key: &str, value: &impl Serialize) -> Result<(), TraitsError> {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(&serde_json::to_string(key)?);
    object.push(':');
    object.push_str(&serde_json::to_string(value)?);
    Ok(())
}

/// The traits of a stored row, as they were: `text` is the JSON column as text, `types` its paths' types
/// (`JSONAllPathsWithTypes`), `tagged` the column `traits_tagged`.
///
/// # Errors
/// [`TraitsError`] when the row was not written by this crate: a path without a type, another array, a type of its own.
pub fn read_traits(
    text: &str,
    types: &BTreeMap<String, String>,
    tagged: &str,
) -> Result<Traits, TraitsError> {
    let mut traits = Traits::new();
    for (path, raw) in flatten(text)? {
        let column_type = types.get(&path).map(String::as_str);
        let value = match column_type {
            Some("String") => Value::Str(serde_json::from_str(raw.get())?),
            Some("Bool") => Value::Bool(serde_json::from_str(raw.get())?),
            Some("Int64") => Value::Int(serde_json::from_str(raw.get())?),
            // Not by serde_json, which may be off by the last bit.
            Some("Float64") => {
                Value::Float(raw.get().parse().map_err(|_| TraitsError("a Float64 is no float".into()))?)
            }
            Some("Array(Nullable(String))") => {
                let [name]: [String; 1] = serde_json::from_str(raw.get())?;
                let float = NonFinite::ALL.into_iter().find(|float| float.text() == name);
                Value::Float(float.ok_or_else(|| TraitsError("an array names no float".into()))?.value())
            }
            Some(_) => return Err(TraitsError("a path has a type that no trait has".into())),
            None => return Err(TraitsError("a path has no type".into())),
        };
        traits.insert(path, value);
    }
    if !tagged.is_empty() {
        traits.extend(serde_json::from_str::<Traits>(tagged)?);
    }
    Ok(traits)
}

/// The union of an image's traits and system traits as `trait_texts` wrote it, from the texts themselves.
///
/// # Errors
/// [`TraitsError`] when they are not what [`trait_texts`] writes.
pub(crate) fn read_texts(text: &str, tagged: &str) -> Result<Traits, TraitsError> {
    let written: BTreeMap<String, Written> = serde_json::from_str(text)?;
    let mut traits: Traits = written.into_iter().map(|(key, value)| (key, value.0)).collect();
    if !tagged.is_empty() {
        traits.extend(serde_json::from_str::<Traits>(tagged)?);
    }
    Ok(traits)
}

/// A value as it stands in `traits`.
struct Written(Value);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, or a float's name in an array")
    }
    fn visit_bool<E>(self, b: bool) -> Result<Written, E> {
        Ok(Written(Value::Bool(b)))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Written, E> {
        Ok(Written(Value::Int(n)))
    }
    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Written, E> {
        i64::try_from(n)
            .map(|n| Written(Value::Int(n)))
            .map_err(|_| E::custom("a number of more than 64 bits"))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Written, E> {
        Ok(Written(Value::Float(x)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written(Value::Str(text.to_owned())))
    }
    fn visit_string<E>(self, text: String) -> Result<Written, E> {
        Ok(Written(Value::Str(text)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Written, A::Error> {
        let name: Option<String> = array.next_element()?;
        let float = NonFinite::ALL.into_iter().find(|float| Some(float.text()) == name.as_deref());
        match (float, array.next_element::<de::IgnoredAny>()?) {
            (Some(float), None) => Ok(Written(Value::Float(float.value()))),
            (Some(_) | None, _) => Err(de::Error::custom("an array names no float")),
        }
    }
}

/// The scalars of a nested object by their path. ClickHouse shows the path `a.b` as an object in an object, and a
/// scalar `a` beside it under the same key a second time.
fn flatten(text: &str) -> Result<Vec<(String, &RawValue)>, TraitsError> {
    let mut scalars = Vec::new();
    // A stack of our own, since a key of a thousand dots is a thousand objects deep.
    let mut objects: Vec<(Option<String>, &str)> = vec![(None, text)];
    while let Some((prefix, object)) = objects.pop() {
        for (key, raw) in serde_json::from_str::<Entries<'_>>(object)?.0 {
            let path = match &prefix {
                Some(prefix) => format!("{prefix}.{key}"),
                None => key,
            };
            if raw.get().starts_with('{') {
                objects.push((Some(path), raw.get()));
            } else {
                scalars.push((path, raw));
            }
        }
    }
    Ok(scalars)
}

/// The entries of an object in order, equal keys and all.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}
