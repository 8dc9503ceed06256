//! A line of a data file flows in, the item that it tells of flows out. Pure.
//!
//! Full exports: `{"Item": {…}}`. Incremental ones: `{"Metadata": {…}, "Keys": {…}, "NewImage": {…}, "OldImage": {…}}`,
//! where no `NewImage` is a delete. Old images don't matter: the roster has its own.

use std::sync::Arc;

use rollcall_model::{Attribute, FoundItem, Item, ItemState, NativeId};
use serde::Deserialize;
use serde_json::Value;

/// The two kinds of lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Full,
    Incremental,
}

#[derive(Deserialize)]
struct Full {
    #[serde(rename = "Item")]
    item: Item,
}

#[derive(Deserialize)]
struct Incremental {
    #[serde(rename = "Keys")]
    keys: Item,
    #[serde(rename = "NewImage")]
    new: Option<Item>,
}

/// Reads a line. What can't be read of an item whose key can is [`ItemState::Broken`], for quarantine; else it is an
/// error that says what is wrong.
pub(crate) fn read(line: &[u8], form: Form, key: &str) -> Result<FoundItem, String> {
    let read = match form {
        Form::Full => serde_json::from_slice::<Full>(line).map(|full| (id(&full.item, key), Some(full.item))),
        Form::Incremental => {
            serde_json::from_slice::<Incremental>(line).map(|change| (id(&change.keys, key), change.new))
        }
    };
    match read {
        Ok((Some(id), Some(item))) => Ok(FoundItem { id, state: ItemState::Present(item) }),
        Ok((Some(id), None)) => Ok(FoundItem { id, state: ItemState::Absent }),
        Ok((None, _)) => Err(format!("the item has no key attribute '{key}' of type S")),
        Err(error) => broken(line, form, key, &error),
    }
}

fn id(item: &Item, key: &str) -> Option<NativeId> {
    match item.get(key) {
        Some(Attribute::S(text)) => Some(NativeId::Text(Arc::from(text.as_str()))),
        Some(
            Attribute::N(_)
            | Attribute::B(_)
            | Attribute::Bool(_)
            | Attribute::Null
            | Attribute::M(_)
            | Attribute::L(_)
            | Attribute::Ss(_)
            | Attribute::Ns(_)
            | Attribute::Bs(_)
            | Attribute::Unknown(_),
        )
        | None => None,
    }
}

/// The slow way, for a line that isn't as it should be.
fn broken(line: &[u8], form: Form, key: &str, error: &serde_json::Error) -> Result<FoundItem, String> {
    let value: Value = serde_json::from_slice(line).map_err(|e| format!("it is no JSON: {e}"))?;
    let named = match form {
        Form::Full => "Item",
        Form::Incremental => "Keys",
    };
    let Some(item) = value.get(named) else {
        let other = if value.get("Keys").is_some() {
            ", but a change: the summary says that the export is a full one"
        } else if value.get("Item").is_some() {
            ", but a whole item: the summary says that the export is an incremental one"
        } else {
            ""
        };
        return Err(format!("it has no '{named}'{other}"));
    };
    match item.get(key).and_then(|attribute| attribute.get("S")).and_then(Value::as_str) {
        Some(id) => Ok(FoundItem {
            id: NativeId::Text(Arc::from(id)),
            state: ItemState::Broken(format!("an attribute can't be read: {error}")),
        }),
        None => Err(format!("the item has no key attribute '{key}' of type S, and {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: &str) -> NativeId {
        NativeId::Text(Arc::from(id))
    }

    #[test]
    fn a_line_is_an_item_a_change_or_a_delete() {
        let found = read(br#"{"Item":{"k":{"S":"a"},"x":{"VEC":[1]}}}"#, Form::Full, "k").unwrap();
        assert_eq!(found.id, text("a"));
        let ItemState::Present(item) = found.state else { panic!("present") };
        assert_eq!(item["x"], Attribute::Unknown("VEC".to_owned()));

        let line = br#"{"Metadata":{"WriteTimestampMicros":{"N":"1680109764000000"}},"Keys":{"k":{"S":"a"}},"NewImage":{"k":{"S":"a"},"n":{"N":"1"}},"OldImage":{"k":{"S":"a"}}}"#;
        let found = read(line, Form::Incremental, "k").unwrap();
        let ItemState::Present(item) = found.state else { panic!("present") };
        assert_eq!(item.len(), 2);

        for line in [
            r#"{"Metadata":{},"Keys":{"k":{"S":"a"}}}"#,
            r#"{"Metadata":{},"Keys":{"k":{"S":"a"}},"OldImage":{"k":{"S":"a"}}}"#,
        ] {
            let found = read(line.as_bytes(), Form::Incremental, "k").unwrap();
            assert_eq!(found, FoundItem { id: text("a"), state: ItemState::Absent });
        }
    }

    #[test]
    fn what_cannot_be_read_is_broken_if_it_has_a_name_and_refused_if_not() {
        let found = read(br#"{"Item":{"k":{"S":"a"},"x":{"S":7}}}"#, Form::Full, "k").unwrap();
        assert_eq!(found.id, text("a"));
        assert!(matches!(found.state, ItemState::Broken(_)));
        let change = br#"{"Keys":{"k":{"S":"a"}},"NewImage":{"k":{"S":"a"},"x":{}}}"#;
        assert!(matches!(read(change, Form::Incremental, "k").unwrap().state, ItemState::Broken(_)));

        for (line, form, said) in [
            (r#"{"Item":{"k":{"S":"a"}"#, Form::Full, "no JSON"),
            ("", Form::Full, "no JSON"),
            ("7", Form::Full, "no 'Item'"),
            (r#"{"Item":{"other":{"S":"a"}}}"#, Form::Full, "no key attribute 'k'"),
            (r#"{"Item":{"k":{"N":"1"}}}"#, Form::Full, "no key attribute 'k'"),
            (r#"{"Item":{"k":{"N":1}}}"#, Form::Full, "no key attribute 'k'"),
            (r#"{"Keys":{"k":{"S":"a"}}}"#, Form::Full, "a full one"),
            (r#"{"Item":{"k":{"S":"a"}}}"#, Form::Incremental, "an incremental one"),
        ] {
            let error = read(line.as_bytes(), form, "k").unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn the_deepest_item_of_dynamodb_can_be_read() {
        let (open, close) = (r#"{"M":{"a":"#.repeat(32), "}}".repeat(32));
        let line = format!(r#"{{"Item":{{"k":{{"S":"a"}},"x":{open}{{"S":"y"}}{close}}}}}"#);
        assert!(matches!(read(line.as_bytes(), Form::Full, "k").unwrap().state, ItemState::Present(_)));
    }
}
