//! An Avro value → the JSON that was written, along the schema of this version.
//!
//! The value has been decoded, and resolved to our schema where another version wrote it; still it is outside input:
//! whatever isn't as the schema says is refused.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use rollcall_model::NonFinite;
use serde_json::value::RawValue;

use crate::json_to_avro::Misfit;
use crate::shape::{FieldShape, Shape};

/// Appends the JSON of a value.
pub(crate) fn to_json(shape: &Shape, value: &Value, out: &mut Vec<u8>) -> Result<(), Misfit> {
    match (shape, value) {
        (Shape::Null, Value::Null) => out.extend_from_slice(b"null"),
        (Shape::Boolean, Value::Boolean(b)) => write(out, b)?,
        (Shape::Int, Value::Int(n)) => write(out, n)?,
        (Shape::Long, Value::Long(n)) => write(out, n)?,
        (Shape::Unsigned, Value::Long(n)) => write(out, &n.cast_unsigned())?,
        (Shape::Double, Value::Double(x)) => match NonFinite::of(*x) {
            None => write(out, x)?,
            Some(float) => write(out, &BTreeMap::from([("$float", float.text())]))?,
        },
        (Shape::String, Value::String(text)) => write(out, text)?,
        (Shape::Enum(symbols), Value::Enum(_, symbol)) if symbols.contains(symbol) => write(out, symbol)?,
        (Shape::Text, Value::String(text)) => json_text(text, out)?,
        (Shape::Wrapped(_), Value::Record(fields)) => match fields.as_slice() {
            [(_, Value::String(text))] => json_text(text, out)?,
            _ => return Err(Misfit::new("holds no JSON")),
        },
        (Shape::Array(items), Value::Array(values)) => {
            out.push(b'[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                to_json(items, value, out).map_err(|misfit| misfit.within("[]"))?;
            }
            out.push(b']');
        }
        (Shape::Map(of), Value::Map(values)) => {
            // In order of key: a map of Avro has none, and equal records should look equal.
            let values: BTreeMap<&String, &Value> = values.iter().collect();
            out.push(b'{');
            for (n, (key, value)) in values.into_iter().enumerate() {
                entry(out, n > 0, key)?;
                to_json(of, value, out).map_err(|misfit| misfit.within("*"))?;
            }
            out.push(b'}');
        }
        (Shape::Record(fields), Value::Record(values)) => {
            out.push(b'{');
            let mut any = false;
            record(fields, values, &mut any, out)?;
            out.push(b'}');
        }
        (Shape::Union(branches), Value::Union(place, value)) => {
            let branch = usize::try_from(*place).ok().and_then(|place| branches.get(place));
            to_json(branch.ok_or_else(|| Misfit::new("is of a branch that isn't there"))?, value, out)?;
        }
        _ => return Err(Misfit::new("is not of the type that the schema says")),
    }
    Ok(())
}

fn record(
    fields: &[FieldShape],
    values: &[(String, Value)],
    any: &mut bool,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    if fields.len() != values.len() {
        return Err(Misfit::new("has not the fields that the schema says"));
    }
    for (field, (name, value)) in fields.iter().zip(values) {
        let at = |misfit: Misfit| misfit.within(&field.name);
        if *name != field.name {
            return Err(at(Misfit::new("is not where the schema says")));
        }
        if (field.optional || field.flat.is_some()) && is_null(value) {
            continue;
        }
        if field.flat.is_some() {
            let (Value::Union(_, inner), fields) = (value, field.shape.fields()) else {
                return Err(at(Misfit::new("is no record")));
            };
            let Value::Record(values) = inner.as_ref() else {
                return Err(at(Misfit::new("is no record")));
            };
            record(fields, values, any, out).map_err(at)?;
            continue;
        }
        entry(out, *any, &field.name)?;
        *any = true;
        to_json(&field.shape, value, out).map_err(at)?;
    }
    Ok(())
}

fn is_null(value: &Value) -> bool {
    matches!(value, Value::Null) || matches!(value, Value::Union(_, inner) if matches!(**inner, Value::Null))
}

fn entry(out: &mut Vec<u8>, more: bool, key: &str) -> Result<(), Misfit> {
    if more {
        out.push(b',');
    }
    write(out, key)?;
    out.push(b':');
    Ok(())
}

fn write<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Misfit> {
    serde_json::to_writer(out, value).map_err(|_| Misfit::new("can't be written as JSON"))
}

/// Text that another wrote is only JSON once it has been read as such.
fn json_text(text: &str, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| Misfit::new("holds no JSON"))?;
    out.extend_from_slice(raw.get().as_bytes());
    Ok(())
}
