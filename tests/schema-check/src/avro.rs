//! Avro schemas: each form reads what the other wrote, Confluent's FULL.
//!
//! `apache-avro` decides; where it says no, the fields are gone through to say which. Beside Avro's own rules stay the
//! property `rollcall.json` and the defaults, from which the JSON is made.

use apache_avro::Schema;
use apache_avro::schema::{RecordField, RecordSchema};
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use crate::Found;

/// What of the new form doesn't read the old one's records, or the other way round.
pub(crate) fn compare(old: &str, new: &str) -> Result<Found, String> {
    let parse = |text: &str| Schema::parse_str(text).map_err(|e| format!("is no Avro schema: {e}"));
    let (old, new) = (parse(old)?, parse(new)?);
    let mut found = Found::new();
    schemas(&old, &new, "", &mut found);
    if found.is_empty()
        && let Some(rule) = incompatible(&old, &new)
    {
        found.insert((String::new(), rule));
    }
    Ok(found)
}

fn schemas(old: &Schema, new: &Schema, at: &str, found: &mut Found) {
    match (old, new) {
        (Schema::Record(old), Schema::Record(new)) => records(old, new, at, found),
        (Schema::Array(old), Schema::Array(new)) => {
            schemas(&old.items, &new.items, &format!("{at}[]"), found)
        }
        (Schema::Map(old), Schema::Map(new)) => schemas(&old.types, &new.types, &format!("{at}.*"), found),
        (Schema::Union(old), Schema::Union(new)) if old.variants().len() == new.variants().len() => {
            for (old, new) in old.variants().iter().zip(new.variants()) {
                schemas(old, new, at, found);
            }
        }
        _ => {
            if let Some(rule) = incompatible(old, new) {
                found.insert((at.to_owned(), rule));
            }
        }
    }
}

fn records(old: &RecordSchema, new: &RecordSchema, at: &str, found: &mut Found) {
    let under = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    if old.name != new.name {
        found.insert((at.to_owned(), format!("a record keeps its name, {}", old.name)));
    }
    let of = |record: &'_ RecordSchema, name: &str| record.fields.iter().position(|field| field.name == name);
    for field in &old.fields {
        let at = under(&field.name);
        match of(new, &field.name).and_then(|place| new.fields.get(place)) {
            Some(now) => fields(field, now, &at, found),
            None => {
                found.insert((at, "a field may not be removed".to_owned()));
            }
        }
    }
    for field in new.fields.iter().filter(|field| of(old, &field.name).is_none() && field.default.is_none()) {
        found.insert((
            under(&field.name),
            "a new field needs a default: older records are without it".to_owned(),
        ));
    }
}

fn fields(old: &RecordField, new: &RecordField, at: &str, found: &mut Found) {
    let mut say = |rule: &str| {
        found.insert((at.to_owned(), rule.to_owned()));
    };
    if old.default != new.default {
        say("a default stays: it says what an absent field is");
    }
    if old.custom_attributes.get("rollcall.json") != new.custom_attributes.get("rollcall.json") {
        say("rollcall.json stays: it says how the value stands in JSON");
    }
    schemas(&old.schema, &new.schema, at, found);
}

/// Why one of the two doesn't read all that the other wrote.
fn incompatible(old: &Schema, new: &Schema) -> Option<String> {
    for (writer, reader, rule) in [
        (old, new, "a field keeps its type: older records can't be read with the new one"),
        (new, old, "a field keeps its type: older readers can't read what is written with the new one"),
    ] {
        match SchemaCompatibility::can_read(writer, reader) {
            Ok(Compatibility::Full) => {}
            Ok(Compatibility::Partial) => return Some(format!("{rule} (not all of its values)")),
            Err(why) => return Some(format!("{rule} ({why})")),
        }
    }
    None
}
