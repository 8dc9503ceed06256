//! Trait values, held without loss.

use std::collections::BTreeMap;
use std::fmt;

use num_bigint::BigInt;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Traits by key, in key order.
pub type Traits = BTreeMap<String, Value>;

/// The value of a trait. Floats compare by their bits, so that an image equals itself whatever it holds.
///
/// In JSON a value stands as itself; what JSON has no number for stands in a tagged form:
/// `{"$int": "9223372036854775808"}` beyond 64 bits, `{"$float": "NaN" | "Infinity" | "-Infinity"}`.
/// A float always shows a point or an exponent (`10.0`), an integer never does.
#[derive(Clone, Debug)]
pub enum Value {
    /// Set to nothing; judged as not set.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number in 64 bits.
    Int(i64),
    /// A whole number beyond 64 bits; never one that [`Value::Int`] could hold.
    BigInt(Box<BigInt>),
    /// A float.
    Float(f64),
    /// Text.
    Str(String),
}

impl Value {
    /// A whole number of any size, in the form its size asks for.
    #[must_use]
    pub fn int(number: BigInt) -> Self {
        i64::try_from(&number).map_or_else(|_| Self::BigInt(Box::new(number)), Self::Int)
    }
}

/// A float that isn't finite, for which JSON has no number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NonFinite {
    /// Not a number.
    Nan,
    /// Above all.
    Infinity,
    /// Below all.
    NegativeInfinity,
}

impl NonFinite {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Nan, Self::Infinity, Self::NegativeInfinity];

    /// Which one a float is, if it is one.
    #[must_use]
    pub fn of(x: f64) -> Option<Self> {
        if x.is_nan() {
            Some(Self::Nan)
        } else if x.is_infinite() {
            Some(if x > 0.0 { Self::Infinity } else { Self::NegativeInfinity })
        } else {
            None
        }
    }

    /// The float.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Nan => f64::NAN,
            Self::Infinity => f64::INFINITY,
            Self::NegativeInfinity => f64::NEG_INFINITY,
        }
    }

    /// Its name in JSON: `NaN`, `Infinity`, `-Infinity`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Nan => "NaN",
            Self::Infinity => "Infinity",
            Self::NegativeInfinity => "-Infinity",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::BigInt(a), Self::BigInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Str(a), Self::Str(b)) => a == b,
            (
                Self::Null | Self::Bool(_) | Self::Int(_) | Self::BigInt(_) | Self::Float(_) | Self::Str(_),
                _,
            ) => false,
        }
    }
}

impl Eq for Value {}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = |serializer: S, tag: &str, text: &str| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(tag, text)?;
            map.end()
        };
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::BigInt(n) => tagged(serializer, "$int", &n.to_string()),
            Self::Float(x) => match NonFinite::of(*x) {
                None => serializer.serialize_f64(*x),
                Some(float) => tagged(serializer, "$float", float.text()),
            },
            Self::Str(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a bool, a number, text, {\"$int\": text} or {\"$float\": text}")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(Value::int(BigInt::from(n)))
    }
    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Str(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Str(text))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (tag, text): (String, String) =
            map.next_entry()?.ok_or_else(|| de::Error::custom("an empty object is no trait value"))?;
        if map.next_entry::<String, de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("a tagged value has one entry"));
        }
        match (tag.as_str(), text.as_str()) {
            ("$int", digits) => digits.parse().map(Value::int).map_err(de::Error::custom),
            ("$float", name) => match NonFinite::ALL.into_iter().find(|float| float.text() == name) {
                Some(float) => Ok(Value::Float(float.value())),
                None => Err(de::Error::custom(format!("unknown float '{name}'"))),
            },
            _ => Err(de::Error::custom(format!("unknown tagged value '{tag}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_value() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(i64::MIN),
            Value::int(BigInt::from(u64::MAX)),
            Value::Float(10.0),
            Value::Float(-0.0),
            Value::Float(f64::NAN),
            Value::Float(f64::NEG_INFINITY),
            Value::Float(1e22),
            Value::Str("2024-01-01\0\"\\'".into()),
        ];
        for value in values {
            let text = serde_json::to_string(&value).expect("serialises");
            let back: Value = serde_json::from_str(&text).expect("parses");
            assert_eq!(back, value, "{text}");
        }
        assert_eq!(serde_json::to_string(&Value::Float(10.0)).expect("serialises"), "10.0");
    }
}
