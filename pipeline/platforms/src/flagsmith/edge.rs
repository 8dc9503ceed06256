//! An item of the edge's table → one change.
//!
//! ```text
//!  Present { environment_api_key, identifier, identity_traits, system_traits, … } ─▶ Upsert, the whole image
//!  Absent, whoever deleted it (the platform, its time to live) ───────────────────▶ Delete
//!  Broken, or not of the platform's shape ────────────────────────────────────────▶ Invalid, which names the attribute
//! ```
//!
//! Read as the platform's own evaluation reads a document (`IdentityModel`, `map_environment_identity_to_context`):
//! of duplicate trait keys the last wins, a NULL value is no value, `identity_traits` may be absent, `system_traits` may
//! be absent or NULL. What it raises on is Invalid. So is a list, map, set or binary as a value: it would read them as
//! the text of a Python object, which nobody means.
//!
//! The environment is the text of `environment_api_key`: that is what this source calls it ([`EnvironmentDoc::called`]).
//! The key is never taken apart, since both its halves may hold `_`; it names the item and is not judged by. So does
//! `django_id`, the number that a migrated identity had in Postgres: `identity.key` is composite at the edge, as in the
//! platform's own count. Other attributes are not looked at, whatever they hold.
//!
//! [`EnvironmentDoc::called`]: rollcall_model::EnvironmentDoc::called

use rollcall_model::{Attribute, Change, EnvironmentId, Image, Item, ItemState, Traits, Value};

use super::number;

/// The attribute that is the table's key.
pub const EDGE_KEY: &str = "composite_key";
/// The attribute that holds an environment's api key.
pub const EDGE_ENVIRONMENT: &str = "environment_api_key";
/// The table's index by environment.
pub const EDGE_ENVIRONMENT_INDEX: &str = "environment_api_key-identifier-index";

const IDENTIFIER: &str = "identifier";
const TRAITS: &str = "identity_traits";
const SYSTEM_TRAITS: &str = "system_traits";

/// The largest item that is read: DynamoDB's own limit. Counted without what DynamoDB adds for lists and maps and with a
/// number as one byte, so never higher than it counts: every item that it can hold is read.
pub(super) const ITEM_BYTES_MAX: usize = 400 * 1024;
/// How much of an item goes to quarantine for a person to read. The reason says which attribute is meant.
pub(super) const RAW_BYTES_MAX: usize = 16 * 1024;
/// How much of a trait key a reason repeats.
const NAME_CHARS_MAX: usize = 200;

/// What an item says of its identity.
#[must_use]
pub fn item_change(state: &ItemState) -> Change {
    match state {
        ItemState::Absent => Change::Delete,
        ItemState::Broken(reason) => Change::Invalid { reason: reason.clone(), raw: String::new() },
        ItemState::Present(item) => match image(item) {
            Ok(image) => Change::Upsert { image },
            Err(reason) => Change::Invalid { reason, raw: raw(item) },
        },
    }
}

fn image(item: &Item) -> Result<Image, String> {
    let bytes = map_bytes(item);
    if bytes > ITEM_BYTES_MAX {
        return Err(format!(
            "the item has at least {bytes} bytes, and DynamoDB holds no item above {ITEM_BYTES_MAX}"
        ));
    }
    text(item, EDGE_KEY)?;
    Ok(Image {
        environment_id: EnvironmentId::from(text(item, EDGE_ENVIRONMENT)?),
        identifier: text(item, IDENTIFIER)?.to_owned(),
        traits: traits(item)?,
        system_traits: system_traits(item)?,
    })
}

fn text<'a>(item: &'a Item, name: &str) -> Result<&'a str, String> {
    match item.get(name) {
        Some(Attribute::S(text)) => Ok(text),
        Some(other) => Err(format!("its attribute {name} is of type {}, not S", other.type_name())),
        None => Err(format!("its attribute {name} is missing")),
    }
}

fn traits(item: &Item) -> Result<Traits, String> {
    let entries = match item.get(TRAITS) {
        None => return Ok(Traits::new()),
        Some(Attribute::L(entries)) => entries,
        Some(other) => return Err(format!("its attribute {TRAITS} is of type {}, not L", other.type_name())),
    };
    entries.iter().enumerate().map(|(place, entry)| trait_of(place, entry)).collect()
}

fn trait_of(place: usize, entry: &Attribute) -> Result<(String, Value), String> {
    let Attribute::M(entry) = entry else {
        return Err(format!("its attribute {TRAITS}[{place}] is of type {}, not M", entry.type_name()));
    };
    let key = text(entry, "trait_key").map_err(|reason| format!("{reason} in {TRAITS}[{place}]"))?;
    let value = entry.get("trait_value").ok_or_else(|| {
        format!(
            "its trait '{}' in {TRAITS} has no trait_value: the platform can't read it either, and gives it one by \
             `python manage.py ensure_identity_traits_blanks`",
            shown(key)
        )
    })?;
    Ok((key.to_owned(), value_of(TRAITS, key, value)?))
}

fn system_traits(item: &Item) -> Result<Traits, String> {
    match item.get(SYSTEM_TRAITS) {
        None | Some(Attribute::Null) => Ok(Traits::new()),
        Some(Attribute::M(entries)) => entries
            .iter()
            .map(|(key, value)| Ok((key.clone(), value_of(SYSTEM_TRAITS, key, value)?)))
            .collect(),
        Some(other) => {
            Err(format!("its attribute {SYSTEM_TRAITS} is of type {}, neither M nor NULL", other.type_name()))
        }
    }
}

fn value_of(attribute: &str, key: &str, value: &Attribute) -> Result<Value, String> {
    match value {
        Attribute::S(text) => Ok(Value::Str(text.clone())),
        Attribute::N(text) => number::value(text)
            .map_err(|reason| format!("its trait '{}' in {attribute} {reason}", shown(key))),
        Attribute::Bool(value) => Ok(Value::Bool(*value)),
        Attribute::Null => Ok(Value::Null),
        Attribute::B(_)
        | Attribute::M(_)
        | Attribute::L(_)
        | Attribute::Ss(_)
        | Attribute::Ns(_)
        | Attribute::Bs(_)
        | Attribute::Unknown(_) => Err(format!(
            "its trait '{}' in {attribute} is of type {}: none of S, N, BOOL, NULL",
            shown(key),
            shown(value.type_name())
        )),
    }
}

/// The start of a name, for a reason.
fn shown(name: &str) -> &str {
    name.char_indices().nth(NAME_CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

/// The item in DynamoDB's JSON, cut where it is long.
fn raw(item: &Item) -> String {
    let mut raw = serde_json::to_string(item).unwrap_or_default();
    if raw.len() > RAW_BYTES_MAX {
        let whole = raw.len();
        raw.truncate(raw.floor_char_boundary(RAW_BYTES_MAX));
        raw.push_str(&format!("… cut, {whole} bytes in all"));
    }
    raw
}

fn map_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + attribute_bytes(value)).sum()
}

fn attribute_bytes(value: &Attribute) -> usize {
    let sum = |texts: &[String]| texts.iter().map(String::len).sum();
    // Four characters of base64 are at most three bytes, and at least one.
    let raw = |base64: &str| (base64.len() / 4 * 3).saturating_sub(2);
    match value {
        Attribute::S(text) => text.len(),
        Attribute::B(base64) => raw(base64),
        Attribute::N(_) | Attribute::Bool(_) | Attribute::Null | Attribute::Unknown(_) => 1,
        Attribute::M(item) => map_bytes(item),
        Attribute::L(list) => list.iter().map(attribute_bytes).sum(),
        Attribute::Ss(texts) => sum(texts),
        Attribute::Ns(numbers) => numbers.len(),
        Attribute::Bs(all) => all.iter().map(|base64| raw(base64)).sum(),
    }
}
