//! A record's JSON → the Avro value that its schema asks for.
//!
//! What the schema has no place for is refused, never dropped: a field more, a field less, a number that doesn't fit.
//! Objects are cut into their raw fields, so that JSON that stays text is copied as it stands, however deep it is.

use std::collections::HashMap;

use apache_avro::types::Value;
use rollcall_model::NonFinite;
use serde_json::value::RawValue;

use crate::shape::{FieldShape, Shape};

/// What JSON has no place in a schema. Names fields, never values: it goes into faults.
#[derive(Debug, thiserror::Error)]
#[error("{}{what}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub(crate) struct Misfit {
    pub(crate) path: String,
    pub(crate) what: &'static str,
}

impl Misfit {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { path: String::new(), what }
    }
    pub(crate) fn within(mut self, name: &str) -> Self {
        if !self.path.is_empty() {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, name);
        self
    }
}

type Fields<'a> = HashMap<String, &'a RawValue>;

/// The Avro value of some JSON.
pub(crate) fn to_avro(shape: &Shape, raw: &RawValue) -> Result<Value, Misfit> {
    let text = raw.get();
    match shape {
        Shape::Null if text == "null" => Ok(Value::Null),
        Shape::Null => Err(Misfit::new("is not null")),
        Shape::Boolean => read(text, "is no boolean").map(Value::Boolean),
        Shape::Int => read(text, "is no whole number of 32 bits").map(Value::Int),
        Shape::Long => read(text, "is no whole number of 64 bits").map(Value::Long),
        Shape::Unsigned => read::<u64>(text, "is no unsigned number of 64 bits")
            .map(|number| Value::Long(number.cast_signed())),
        Shape::Double => double(text).map(Value::Double),
        Shape::String => read(text, "is no text").map(Value::String),
        Shape::Text => Ok(Value::String(text.to_owned())),
        Shape::Enum(symbols) => {
            let symbol: String = read(text, "is no text")?;
            let place = symbols.iter().position(|known| *known == symbol);
            let place = place.and_then(|place| u32::try_from(place).ok());
            Ok(Value::Enum(place.ok_or_else(|| Misfit::new("is none of the symbols"))?, symbol))
        }
        Shape::Array(items) => {
            let raw: Vec<&RawValue> = read(text, "is no list")?;
            let items: Result<_, _> = raw.into_iter().map(|item| to_avro(items, item)).collect();
            items.map(Value::Array).map_err(|misfit| misfit.within("[]"))
        }
        Shape::Map(values) => {
            let raw: Fields<'_> = read(text, "is no object")?;
            let values: Result<_, _> =
                raw.into_iter().map(|(key, value)| Ok((key, to_avro(values, value)?))).collect();
            values.map(Value::Map).map_err(|misfit: Misfit| misfit.within("*"))
        }
        Shape::Record(fields) => {
            let mut raw: Fields<'_> = read(text, "is no object")?;
            let record = record(fields, &mut raw)?;
            match raw.is_empty() {
                true => Ok(record),
                false => Err(Misfit::new("has a field that the schema doesn't know")),
            }
        }
        Shape::Wrapped(name) => Ok(Value::Record(vec![(name.clone(), Value::String(text.to_owned()))])),
        Shape::Union(branches) => union(branches, raw),
    }
}

fn read<'a, T: serde::Deserialize<'a>>(text: &'a str, otherwise: &'static str) -> Result<T, Misfit> {
    serde_json::from_str(text).map_err(|_| Misfit::new(otherwise))
}

/// Takes its fields out of `raw`; what is left belongs to nobody.
fn record(fields: &[FieldShape], raw: &mut Fields<'_>) -> Result<Value, Misfit> {
    let tags: Vec<Option<String>> = fields
        .iter()
        .map(|field| {
            let tag = raw.get(field.flat.as_deref()?)?;
            read(tag.get(), "").ok()
        })
        .collect();
    let mut values = Vec::with_capacity(fields.len());
    for (field, tag) in fields.iter().zip(tags) {
        let value = if field.flat.is_some() {
            flat(field, tag.as_deref(), raw)
        } else if let Some(value) = raw.remove(&field.name) {
            if field.optional && value.get() == "null" {
                // It would come back as absent.
                Err(Misfit::new("is null, and only ever absent"))
            } else {
                to_avro(&field.shape, value)
            }
        } else if field.optional {
            Ok(Value::Union(0, Box::new(Value::Null)))
        } else {
            Err(Misfit::new("is absent"))
        };
        values.push((field.name.clone(), value.map_err(|misfit| misfit.within(&field.name))?));
    }
    Ok(Value::Record(values))
}

/// A record whose fields stand beside the others, if the tag names it.
fn flat(field: &FieldShape, tag: Option<&str>, raw: &mut Fields<'_>) -> Result<Value, Misfit> {
    if tag != Some(field.name.as_str()) {
        return Ok(Value::Union(0, Box::new(Value::Null)));
    }
    let place = if let Shape::Union(branches) = &field.shape {
        branches.iter().position(|shape| matches!(shape, Shape::Record(_)))
    } else {
        None
    };
    let place = place.and_then(|place| u32::try_from(place).ok());
    let place = place.ok_or_else(|| Misfit::new("is no record or null in the schema"))?;
    Ok(Value::Union(place, Box::new(record(field.shape.fields(), raw)?)))
}

/// The branch that JSON of this form belongs to; what no branch takes goes, as text, to the one that wraps JSON.
fn union(branches: &[Shape], raw: &RawValue) -> Result<Value, Misfit> {
    let text = raw.get();
    let at = |wanted: fn(&Shape) -> bool| branches.iter().position(wanted);
    let place = match text.as_bytes().first() {
        Some(b'n') => at(|shape| matches!(shape, Shape::Null)),
        Some(b't' | b'f') => at(|shape| matches!(shape, Shape::Boolean)),
        Some(b'"') => at(|shape| matches!(shape, Shape::String | Shape::Enum(_))),
        Some(b'[') => at(|shape| matches!(shape, Shape::Array(_))),
        Some(b'{') if double(text).is_ok() => at(|shape| matches!(shape, Shape::Double)),
        Some(b'{') => at(|shape| matches!(shape, Shape::Record(_) | Shape::Map(_))),
        // `-0` is a float to every reader of JSON that has floats.
        _ if text != "-0" && text.parse::<i64>().is_ok() => {
            at(|shape| matches!(shape, Shape::Long | Shape::Unsigned | Shape::Int))
        }
        _ if text == "-0" || text.contains(['.', 'e', 'E']) => {
            at(|shape| matches!(shape, Shape::Double)).filter(|_| double(text).is_ok())
        }
        _ => at(|shape| matches!(shape, Shape::Unsigned)),
    };
    let place = at(|shape| matches!(shape, Shape::Text))
        .filter(|_| text != "null")
        .or(place)
        .or_else(|| at(|shape| matches!(shape, Shape::Wrapped(_))))
        .ok_or_else(|| Misfit::new("is of none of the types"))?;
    let value = branches.get(place).map(|shape| to_avro(shape, raw)).transpose()?;
    match (value, u32::try_from(place)) {
        (Some(value), Ok(place)) => Ok(Value::Union(place, Box::new(value))),
        _ => Err(Misfit::new("is of none of the types")),
    }
}

/// A float as it stands, or as it is tagged where JSON has no number for it.
fn double(text: &str) -> Result<f64, Misfit> {
    let otherwise = "is no float";
    if !text.starts_with('{') {
        return read(text, otherwise);
    }
    let tagged: HashMap<String, String> = read(text, otherwise)?;
    let name = tagged.get("$float").filter(|_| tagged.len() == 1);
    NonFinite::ALL
        .into_iter()
        .find(|float| name.is_some_and(|name| name == float.text()))
        .map(NonFinite::value)
        .ok_or_else(|| Misfit::new(otherwise))
}
