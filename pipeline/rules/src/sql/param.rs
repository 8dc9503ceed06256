//! The bound values of a predicate.

use std::fmt::Write as _;

/// A bound value: `{name:type}` in the text.
#[derive(Clone, PartialEq, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: ParamValue,
}

/// A value, by the type under which the text names it.
#[derive(Clone, PartialEq, Debug)]
pub enum ParamValue {
    /// `Identifier`: a path within a JSON column. Holds no backslash and no control character.
    Identifier(String),
    /// `String`
    Text(String),
    /// `Array(String)`
    Texts(Vec<String>),
    /// `Int64`
    Int(i64),
    /// `Array(Int64)`
    Ints(Vec<i64>),
    /// `Float64`
    Float(f64),
}

impl ParamValue {
    /// The type's name in the text.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Identifier(_) => "Identifier",
            Self::Text(_) => "String",
            Self::Texts(_) => "Array(String)",
            Self::Int(_) => "Int64",
            Self::Ints(_) => "Array(Int64)",
            Self::Float(_) => "Float64",
        }
    }

    /// The text that ClickHouse's HTTP interface takes for it as `param_name`: a string escaped as in TSV, an array
    /// with quoted elements, an identifier as it is.
    /// (<https://clickhouse.com/docs/interfaces/http#cli-queries-with-parameters>)
    #[must_use]
    pub fn http_text(&self) -> String {
        match self {
            Self::Identifier(text) => text.clone(),
            Self::Text(text) => escaped(text),
            Self::Texts(texts) => list(texts, |text, out| {
                out.push('\'');
                out.push_str(&escaped(text));
                out.push('\'');
            }),
            Self::Int(n) => n.to_string(),
            Self::Ints(ints) => list(ints, |n, out| {
                let _ = write!(out, "{n}");
            }),
            Self::Float(x) if x.is_nan() => "nan".to_owned(),
            Self::Float(x) if x.is_infinite() => if *x > 0.0 { "inf" } else { "-inf" }.to_owned(),
            Self::Float(x) => format!("{x:e}"),
        }
    }
}

fn list<T>(items: &[T], write: impl Fn(&T, &mut String)) -> String {
    let mut out = String::from("[");
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write(item, &mut out);
    }
    out.push(']');
    out
}

/// TSV's escapes, and the quote's, which TSV reads as well.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_http_interface_takes_them() {
        for (value, text) in [
            (ParamValue::Text("a\\b'c\td\ne\0".into()), "a\\\\b\\'c\\td\\ne\\0"),
            (ParamValue::Texts(vec!["a".into(), "it's".into(), String::new()]), "['a','it\\'s','']"),
            (ParamValue::Int(-3), "-3"),
            (ParamValue::Ints(vec![1, 2]), "[1,2]"),
            (ParamValue::Float(f64::INFINITY), "inf"),
            (ParamValue::Float(1.5), "1.5e0"),
            (ParamValue::Identifier("a.b'c".into()), "a.b'c"),
        ] {
            assert_eq!(value.http_text(), text);
        }
    }
}
