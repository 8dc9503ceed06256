//! Items as the SDK gives them, to items as they travel; and keys the other way.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::base64;
use rollcall_model::{Attribute, Item};

/// A key, in the SDK's form.
pub(crate) type Key = HashMap<String, AttributeValue>;

/// An item, in ours.
pub(crate) fn item(found: Key) -> Item {
    found.into_iter().map(|(name, value)| (name, attribute(value))).collect()
}

// The SDK's enum grows, and its own name for what it doesn't know is private.
#[expect(clippy::wildcard_enum_match_arm)]
fn attribute(value: AttributeValue) -> Attribute {
    match value {
        AttributeValue::S(text) => Attribute::S(text),
        AttributeValue::N(digits) => Attribute::N(digits),
        AttributeValue::B(bytes) => Attribute::B(base64::encode(bytes)),
        AttributeValue::Bool(value) => Attribute::Bool(value),
        AttributeValue::Null(_) => Attribute::Null,
        AttributeValue::M(map) => Attribute::M(item(map)),
        AttributeValue::L(list) => Attribute::L(list.into_iter().map(attribute).collect()),
        AttributeValue::Ss(texts) => Attribute::Ss(texts),
        AttributeValue::Ns(digits) => Attribute::Ns(digits),
        AttributeValue::Bs(sets) => Attribute::Bs(sets.into_iter().map(base64::encode).collect()),
        // The SDK drops the name of a type that it doesn't know.
        _ => Attribute::Unknown("unknown to the SDK".to_owned()),
    }
}

/// A key of ours in the SDK's form. Keys are texts, numbers or bytes; of anything else there is none.
pub(crate) fn key(item: &Item) -> Option<Key> {
    item.iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::S(text) => AttributeValue::S(text.clone()),
                Attribute::N(digits) => AttributeValue::N(digits.clone()),
                Attribute::B(bytes) => AttributeValue::B(base64::decode(bytes).ok()?.into()),
                Attribute::Bool(_)
                | Attribute::Null
                | Attribute::M(_)
                | Attribute::L(_)
                | Attribute::Ss(_)
                | Attribute::Ns(_)
                | Attribute::Bs(_)
                | Attribute::Unknown(_) => return None,
            };
            Some((name.clone(), value))
        })
        .collect()
}

/// The text of an item's key attribute.
pub(crate) fn key_text<'a>(item: &'a Item, key: &str) -> Option<&'a str> {
    match item.get(key) {
        Some(Attribute::S(text)) => Some(text),
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

/// About as many bytes as DynamoDB counts for an item (Developer Guide, "item sizes and formats").
pub(crate) fn bytes(item: &Item) -> u64 {
    item.iter().map(|(name, value)| name.len() as u64 + value_bytes(value)).sum()
}

fn value_bytes(value: &Attribute) -> u64 {
    let number = |digits: &String| digits.len() as u64 / 2 + 1;
    let binary = |encoded: &String| encoded.len() as u64 / 4 * 3;
    match value {
        Attribute::S(text) => text.len() as u64,
        Attribute::N(digits) => number(digits),
        Attribute::B(encoded) => binary(encoded),
        Attribute::Bool(_) | Attribute::Null | Attribute::Unknown(_) => 1,
        Attribute::M(map) => 3 + map.len() as u64 + bytes(map),
        Attribute::L(list) => 3 + list.iter().map(|value| 1 + value_bytes(value)).sum::<u64>(),
        Attribute::Ss(texts) => texts.iter().map(|text| text.len() as u64).sum(),
        Attribute::Ns(numbers) => numbers.iter().map(number).sum(),
        Attribute::Bs(sets) => sets.iter().map(binary).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_keeps_its_value() {
        let list = AttributeValue::L(vec![AttributeValue::Null(true), AttributeValue::Bool(false)]);
        let found = HashMap::from([
            ("k".to_owned(), AttributeValue::S("a".to_owned())),
            ("n".to_owned(), AttributeValue::N("12345678901234567890123456789012345678".to_owned())),
            ("b".to_owned(), AttributeValue::B(vec![0_u8, 255].into())),
            ("bs".to_owned(), AttributeValue::Bs(vec![vec![1_u8].into()])),
            ("m".to_owned(), AttributeValue::M(HashMap::from([("l".to_owned(), list)]))),
            ("ns".to_owned(), AttributeValue::Ns(vec!["1".to_owned()])),
        ]);
        let item = item(found);
        let json = r#"{"b":{"B":"AP8="},"bs":{"BS":["AQ=="]},"k":{"S":"a"},"m":{"M":{"l":{"L":[{"NULL":true},{"BOOL":false}]}}},"n":{"N":"12345678901234567890123456789012345678"},"ns":{"NS":["1"]}}"#;
        assert_eq!(serde_json::to_string(&item).unwrap(), json);
        assert_eq!(key_text(&item, "k"), Some("a"));
        assert_eq!(key_text(&item, "n"), None);
        assert!(bytes(&item) > 40 && bytes(&item) < 80, "{}", bytes(&item));
    }

    #[test]
    fn keys_go_both_ways() {
        let json = r#"{"b":{"B":"AP8="},"k":{"S":"a"},"n":{"N":"1"}}"#;
        let there: Item = serde_json::from_str(json).unwrap();
        assert_eq!(item(key(&there).unwrap()), there);
        assert!(key(&serde_json::from_str(r#"{"k":{"BOOL":true}}"#).unwrap()).is_none());
    }
}
