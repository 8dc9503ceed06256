//! How an Avro schema describes the JSON of a topic.
//!
//! ```text
//! schemas/avro/*.avsc ──parse──▶ apache_avro::Schema ──▶ Shape: names resolved, the field property rollcall.json read
//! ```
//!
//! Both directions follow one shape, so that what is written is what is read:
//! - A field whose type is a union with null and whose default is null is optional: null is an absent field. Without
//!   a default, null is `null`.
//! - `"rollcall.json": "text"`: a string that holds JSON text.
//! - `"rollcall.json": "unsigned"`: a long that holds 64 bits without a sign, as Java and Protobuf hold them: what is
//!   beyond 2^63 is negative. No counter of ours comes near.
//! - `"rollcall.json": "flat:TAG"`: in JSON the record's fields stand beside the others; it is there if TAG names it.
//! - In a union of JSON values a double is also NaN and the infinities, and a record with one text field takes what no
//!   other type of the union does.

use apache_avro::Schema;
use apache_avro::schema::{Name, RecordSchema};

/// Types within types, as far as one goes: the schemas are trees, and a tree of records isn't deep.
const DEPTH_MAX: usize = 16;

/// What stands where in the JSON.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Unsigned,
    Double,
    String,
    /// A string that holds JSON.
    Text,
    Enum(Vec<String>),
    Array(Box<Shape>),
    Map(Box<Shape>),
    Record(Vec<FieldShape>),
    /// A record that only wraps JSON text; its field's name.
    Wrapped(String),
    Union(Vec<Shape>),
}

#[derive(Clone, Debug)]
pub(crate) struct FieldShape {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    /// Null means that the field is absent.
    pub(crate) optional: bool,
    /// The field whose value names this one, if its fields stand beside the others.
    pub(crate) flat: Option<String>,
}

impl Shape {
    /// Reads a schema; says what of it isn't understood.
    pub(crate) fn of(schema: &Schema) -> Result<Self, String> {
        Reader { named: Vec::new() }.shape(schema, None, 0)
    }

    /// A record's fields; of a nullable record too.
    pub(crate) fn fields(&self) -> &[FieldShape] {
        match self {
            Self::Record(fields) => fields,
            Self::Union(branches) => {
                branches.iter().find(|shape| matches!(shape, Self::Record(_))).map_or(&[], Self::fields)
            }
            Self::Null
            | Self::Boolean
            | Self::Int
            | Self::Long
            | Self::Unsigned
            | Self::Double
            | Self::String
            | Self::Text
            | Self::Enum(_)
            | Self::Array(_)
            | Self::Map(_)
            | Self::Wrapped(_) => &[],
        }
    }
}

struct Reader {
    /// Named types that are complete: one that names itself is never among them.
    named: Vec<(Name, Shape)>,
}

impl Reader {
    fn shape(&mut self, schema: &Schema, property: Option<&str>, depth: usize) -> Result<Shape, String> {
        if depth > DEPTH_MAX {
            return Err("it is too deep".to_owned());
        }
        let shape = match (schema, property) {
            (Schema::Null, _) => Shape::Null,
            (Schema::String, Some("text")) => Shape::Text,
            (Schema::Long, Some("unsigned")) => Shape::Unsigned,
            (Schema::Union(union), _) => Shape::Union(
                union
                    .variants()
                    .iter()
                    .map(|variant| self.shape(variant, property, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            (Schema::Record(record), None) => self.record(record, depth)?,
            (_, Some(property)) => {
                return Err(format!("rollcall.json {property} stands at a type it isn't for"));
            }
            (Schema::Boolean, None) => Shape::Boolean,
            (Schema::Int, None) => Shape::Int,
            (Schema::Long, None) => Shape::Long,
            (Schema::Double, None) => Shape::Double,
            (Schema::String, None) => Shape::String,
            (Schema::Enum(of), None) => {
                let shape = Shape::Enum(of.symbols.clone());
                self.named.push((of.name.clone(), shape.clone()));
                shape
            }
            (Schema::Array(of), None) => Shape::Array(Box::new(self.shape(&of.items, None, depth + 1)?)),
            (Schema::Map(of), None) => Shape::Map(Box::new(self.shape(&of.types, None, depth + 1)?)),
            (Schema::Ref { name }, None) => {
                let known = self.named.iter().find(|(known, _)| known == name);
                known.ok_or_else(|| format!("{name} is unknown, or holds itself"))?.1.clone()
            }
            (other, None) => return Err(format!("the type {other:?} is not one of ours")),
        };
        Ok(shape)
    }

    fn record(&mut self, record: &RecordSchema, depth: usize) -> Result<Shape, String> {
        let mut fields = Vec::with_capacity(record.fields.len());
        for field in &record.fields {
            let at = |what: String| format!("{}: {what}", field.name);
            let property = match field.custom_attributes.get("rollcall.json") {
                None => None,
                Some(property) => {
                    Some(property.as_str().ok_or_else(|| at("rollcall.json is no text".to_owned()))?)
                }
            };
            let flat = property.and_then(|property| property.strip_prefix("flat:"));
            let property = if flat.is_some() { None } else { property };
            let shape = self.shape(&field.schema, property, depth + 1).map_err(at)?;
            let nullable =
                matches!(&shape, Shape::Union(branches) if matches!(branches.first(), Some(Shape::Null)));
            fields.push(FieldShape {
                name: field.name.clone(),
                optional: nullable && field.default.as_ref().is_some_and(serde_json::Value::is_null),
                flat: flat.map(str::to_owned),
                shape,
            });
        }
        let shape = match fields.as_slice() {
            [FieldShape { name, shape: Shape::Text, .. }] => Shape::Wrapped(name.clone()),
            _ => Shape::Record(fields),
        };
        self.named.push((record.name.clone(), shape.clone()));
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Result<Shape, String> {
        Shape::of(&Schema::parse_str(text).unwrap())
    }

    #[test]
    fn a_type_that_holds_itself_is_refused() {
        let list = r#"{"type": "record", "name": "List", "fields": [
            {"name": "next", "type": ["null", "List"], "default": null}]}"#;
        assert!(shape(list).unwrap_err().contains("holds itself"));
    }

    #[test]
    fn properties_stand_where_they_mean_something() {
        let record = |field: &str| format!(r#"{{"type": "record", "name": "R", "fields": [{field}]}}"#);
        let wrong = record(r#"{"name": "n", "type": "int", "rollcall.json": "unsigned"}"#);
        assert!(shape(&wrong).unwrap_err().contains("n: rollcall.json unsigned"));
        assert!(shape(&record(r#"{"name": "n", "type": "bytes"}"#)).is_err());
        let right =
            record(r#"{"name": "n", "type": ["null", "string"], "rollcall.json": "text", "default": null}"#);
        let Shape::Record(fields) = shape(&right).unwrap() else { panic!("no record") };
        assert!(fields[0].optional);
    }
}
