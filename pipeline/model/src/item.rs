//! Items of DynamoDB as they travel: in streams, scans and exports alike, in DynamoDB's own JSON
//! (`{"composite_key": {"S": "…"}, "django_id": {"N": "7"}}`).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::NativeId;
use crate::position::Position;

/// An item: attributes by name.
pub type Item = BTreeMap<String, Attribute>;

/// The value of an attribute (DynamoDB API reference, `AttributeValue`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// Text.
    S(String),
    /// A number as text, up to 38 digits.
    N(String),
    /// Bytes, in base64.
    B(String),
    /// A truth value.
    Bool(bool),
    /// Set to nothing.
    Null,
    /// Attributes by name.
    M(Item),
    /// A list.
    L(Vec<Self>),
    /// A set of texts.
    Ss(Vec<String>),
    /// A set of numbers.
    Ns(Vec<String>),
    /// A set of bytes, in base64.
    Bs(Vec<String>),
    /// A type that this version doesn't know, by its name.
    Unknown(String),
}

impl Attribute {
    /// The name of its type in DynamoDB's JSON.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::M(_) => "M",
            Self::L(_) => "L",
            Self::Ss(_) => "SS",
            Self::Ns(_) => "NS",
            Self::Bs(_) => "BS",
            Self::Unknown(name) => name,
        }
    }
}

impl Serialize for Attribute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let name = self.type_name();
        match self {
            Self::S(text) | Self::N(text) | Self::B(text) => map.serialize_entry(name, text)?,
            Self::Bool(value) => map.serialize_entry(name, value)?,
            Self::Null => map.serialize_entry(name, &true)?,
            Self::M(item) => map.serialize_entry(name, item)?,
            Self::L(list) => map.serialize_entry(name, list)?,
            Self::Ss(texts) | Self::Ns(texts) | Self::Bs(texts) => map.serialize_entry(name, texts)?,
            Self::Unknown(_) => map.serialize_entry(name, &())?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute such as {\"S\": \"text\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attribute, A::Error> {
        let name =
            map.next_key::<String>()?.ok_or_else(|| de::Error::custom("an attribute without a type"))?;
        let attribute = match name.as_str() {
            "S" => Attribute::S(map.next_value()?),
            "N" => Attribute::N(map.next_value()?),
            "B" => Attribute::B(map.next_value()?),
            "BOOL" => Attribute::Bool(map.next_value()?),
            "NULL" => {
                map.next_value::<de::IgnoredAny>()?;
                Attribute::Null
            }
            "M" => Attribute::M(map.next_value()?),
            "L" => Attribute::L(map.next_value()?),
            "SS" => Attribute::Ss(map.next_value()?),
            "NS" => Attribute::Ns(map.next_value()?),
            "BS" => Attribute::Bs(map.next_value()?),
            _ => {
                map.next_value::<de::IgnoredAny>()?;
                Attribute::Unknown(name)
            }
        };
        match map.next_key::<String>()? {
            None => Ok(attribute),
            Some(second) => {
                Err(de::Error::custom(format!("an attribute of two types, the second is '{second}'")))
            }
        }
    }
}

/// What an item is after a change, or as a scan or an export found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ItemState {
    /// Whole.
    Present(Item),
    /// Gone.
    Absent,
    /// It can't be read, with the reason.
    Broken(String),
}

/// One item of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemChange {
    /// Its key.
    pub id: NativeId,
    /// What it is from here on.
    pub state: ItemState,
    /// When the source says it was written, in microseconds since 1970.
    pub at_us: i64,
    /// Where the record stands.
    pub position: Position,
}

/// One item of a scan or an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundItem {
    /// Its key.
    pub id: NativeId,
    /// What it is.
    pub state: ItemState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_dynamodbs_own_json() {
        let json = r#"{"a":{"S":"x"},"b":{"N":"1.5"},"c":{"BOOL":true},"d":{"NULL":true},"e":{"M":{"k":{"N":"1"}}},"f":{"L":[{"S":"y"}]},"g":{"SS":["p"]}}"#;
        let item: Item = serde_json::from_str(json).expect("an item");
        assert_eq!(serde_json::to_string(&item).expect("JSON"), json);
    }

    #[test]
    fn what_is_no_attribute_is_refused_and_a_new_type_is_kept_as_such() {
        assert!(serde_json::from_str::<Attribute>("{}").is_err());
        assert!(serde_json::from_str::<Attribute>(r#"{"S":"x","N":"1"}"#).is_err());
        assert!(serde_json::from_str::<Attribute>(r#"{"S":1}"#).is_err());
        let new: Attribute = serde_json::from_str(r#"{"VEC":[1,2]}"#).expect("an attribute");
        assert_eq!(new, Attribute::Unknown("VEC".to_owned()));
    }
}
