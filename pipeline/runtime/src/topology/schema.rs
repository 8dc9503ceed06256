//! The closed set of keys: one table per section, written once beside the struct it fills.
//!
//! [`section!`] makes of one list of fields the struct, its documentation and the table of [`Key`]s from which the
//! reader checks and `rollcall check --schema` prints; a key can't be read and not documented, or the other way
//! round.

use serde_json::{Map, Value, json};

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A whole number in a range, both ends included.
    Int { min: u64, max: u64 },
    /// Any text but none.
    Text,
    /// The name of a Postgres object: lower case letters, digits, underscores; at most 63 of them, no digit first.
    PostgresName,
    /// A URL with one of these schemes; `embedded` where the word is taken too.
    Url { schemes: &'static [&'static str], embedded: bool },
    /// A secret: only from the environment.
    Secret,
    /// `address:port`.
    Address,
    /// One of some words.
    Choice(&'static [&'static str]),
}

/// Whether a key must stand there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// It must.
    Required,
    /// It need not; without it nothing is set.
    Optional,
    /// Without it this number holds.
    Number(u64),
    /// Without it this text holds.
    Word(&'static str),
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) need: Need,
}

/// One section: a mapping with a closed set of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) doc: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// A section's struct, its shape and how it is read, from one list.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $kind:expr, $need:expr;)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $ty,)+
        }
        impl $name {
            pub(super) const SHAPE: Shape = Shape {
                doc: &[$($about),+],
                keys: &[$(Key { name: stringify!($field), doc: &[$($doc),+], kind: $kind, need: $need }),+],
            };
            /// `None` when a key has a fault; every key is looked at all the same.
            pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Self> {
                $(let $field = reader.value(section, stringify!($field));)+
                Some(Self { $($field: $field?,)+ })
            }
        }
    };
}
pub(super) use section;

/// Documentation lines as one text.
pub(super) fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A section as JSON Schema; `tag` is the `type` key of a section that has kinds, with whether it must be written.
pub(super) fn object(shape: &Shape, tag: Option<(&str, bool)>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some((kind, written)) = tag {
        properties.insert("type".to_owned(), json!({"const": kind, "description": "What it is."}));
        if written {
            required.push("type");
        }
    }
    for key in shape.keys {
        properties.insert(key.name.to_owned(), property(key));
        if matches!(key.need, Need::Required) {
            required.push(key.name);
        }
    }
    json!({
        "type": "object",
        "description": prose(shape.doc),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Int { min, max } => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"$ref": "#/$defs/from_environment"},
        ]}),
        Kind::Text | Kind::Address => json!({"type": ["string", "number"], "minLength": 1}),
        Kind::PostgresName => json!({"anyOf": [
            {"type": "string", "pattern": "^[a-z_][a-z0-9_]{0,62}$"},
            {"$ref": "#/$defs/from_environment"},
        ]}),
        Kind::Url { schemes, embedded } => {
            let mut forms = vec![
                json!({"type": "string", "pattern": format!("^({})://", schemes.join("|"))}),
                json!({"type": "string", "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}"}),
            ];
            if embedded {
                forms.push(json!({"const": "embedded"}));
            }
            json!({"anyOf": forms})
        }
        Kind::Secret => json!({"$ref": "#/$defs/from_environment"}),
        Kind::Choice(words) => choice(words),
    };
    schema["description"] = Value::String(prose(key.doc));
    match key.need {
        Need::Required | Need::Optional => {}
        Need::Number(number) => schema["default"] = json!(number),
        Need::Word(word) => schema["default"] = json!(word),
    }
    schema
}

/// Words; `on` and `off` also as the booleans that older YAML reads them as.
pub(super) fn choice(words: &[&str]) -> Value {
    let mut values: Vec<Value> = words.iter().map(|word| json!(word)).collect();
    values.extend(words.iter().filter_map(|word| match *word {
        "on" => Some(json!(true)),
        "off" => Some(json!(false)),
        _ => None,
    }));
    json!({"enum": values})
}
