//! Python's `json.loads`, and `str()` of what a list holds.
//!
//! ```text
//! text ──Parser──▶ Json   numbers exact, keys once each: where the first stood, with what the last said
//!         └ Failure: no JSON (ValueError) · nested too deep (RecursionError)
//! IN's operand ──parse_string_list──▶ str() of each element
//! ```
//!
//! Python takes more than JSON: `NaN`, `Infinity`, halves of surrogate pairs; and less: an int of more than 4,300
//! digits is no int. Nothing else is read into a text: strings without an escape are borrowed from it.

mod parser;

use std::borrow::Cow;
use std::fmt;

use super::bool_text;
use super::float_text::write_float;
use super::int_text::Int;
use super::str_repr::{CodePoint, write_repr};
pub(crate) use parser::{Failure, Parser};

/// Deeper nesting exceeds Python's recursion limit of 1,000 frames, of which the reference has used a few.
const LIST_DEPTH_MAX: usize = 900;

/// What Python makes of the text of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum StringList {
    /// `str()` of each element; those that no text can equal (halves of surrogate pairs) are left out.
    Items(Vec<String>),
    /// ValueError: it isn't a list.
    Invalid,
    /// RecursionError, which nothing catches.
    TooDeep,
}

/// `[str(v) for v in json.loads(text)]`, for text that starts with `[`.
pub(crate) fn parse_string_list(text: &str) -> StringList {
    let mut parser = Parser::new(text, LIST_DEPTH_MAX);
    match parser.value(0).and_then(|value| parser.end().map(|()| value)) {
        Ok(Json::List { items, .. }) => StringList::Items(items.iter().filter_map(Json::text).collect()),
        Err(Failure::TooDeep) => StringList::TooDeep,
        Ok(Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Text(_) | Json::Object(_))
        | Err(Failure::Expected { .. } | Failure::Digits { .. }) => StringList::Invalid,
    }
}

/// A string.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Text<'a> {
    /// Text.
    Whole(Cow<'a, str>),
    /// Code points with a half of a surrogate pair among them, which is no text.
    Halves(Vec<CodePoint>),
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Int(Int),
    Float(f64),
    Text(Text<'a>),
    List {
        items: Vec<Json<'a>>,
        /// As it stands in the text.
        raw: &'a str,
    },
    /// Keys once each, in the order in which they first stood.
    Object(Vec<(Text<'a>, Json<'a>)>),
}

impl Json<'_> {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(Text::Whole(_)) => "text",
            Self::Text(Text::Halves(_)) => "text with half of a surrogate pair",
            Self::List { .. } => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Python's `str()`, where it is text that can be compared with.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Text(Text::Whole(text)) => Some(text.clone().into_owned()),
            Self::Text(Text::Halves(_)) => None,
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::List { .. }
            | Self::Object(_) => {
                let mut out = String::new();
                self.write_repr(&mut out).ok()?;
                Some(out)
            }
        }
    }

    fn write_repr(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::Null => out.push_str("None"),
            Self::Bool(b) => out.push_str(bool_text(*b)),
            Self::Int(n) => out.push_str(&n.text()),
            Self::Float(x) => write_float(*x, out)?,
            Self::Text(text) => text.write_repr(out)?,
            Self::List { items, .. } => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { ", " });
                    item.write_repr(out)?;
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { ", " });
                    key.write_repr(out)?;
                    out.push_str(": ");
                    value.write_repr(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

impl Text<'_> {
    fn write_repr(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::Whole(text) => write_repr(&text.chars().map(CodePoint::from).collect::<Vec<_>>(), out),
            Self::Halves(codes) => write_repr(codes, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Vec<String> {
        match parse_string_list(text) {
            StringList::Items(items) => items,
            other @ (StringList::Invalid | StringList::TooDeep) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn elements_are_pythons_text() {
        assert_eq!(
            items(r#"["a", 1, 1.0, 1e22, true, null, NaN, -Infinity, -0, "é\ud83d\ude00"]"#),
            ["a", "1", "1.0", "1e+22", "True", "None", "nan", "-inf", "0", "é😀"]
        );
        assert_eq!(items(r#"[["a", 1, {"k": null, "k": "it's"}]] "#), [r#"['a', 1, {'k': "it's"}]"#]);
        assert_eq!(items(r#"["\ud800", ["\ud800"]]"#), [r"['\ud800']"]);
        assert_eq!(items(r#"["a\nb\u00e9", ["\ud83dx\ud83d\ude00"]]"#), ["a\nbé", r"['\ud83dx😀']"]);
        assert!(items("[]").is_empty());
    }

    #[test]
    fn keys_stand_where_they_first_stood() {
        let many: String = (0..100).map(|n| format!("\"k{}\":{n},", n % 40)).collect();
        let text = items(&format!("[{{{many}\"k7\":null}}]")).remove(0);
        assert!(text.starts_with("{'k0': 80, 'k1': 81,") && text.contains("'k7': None, 'k8': 88"), "{text}");
        assert!(text.contains("'k20': 60,") && text.ends_with("'k39': 79}"), "{text}");
    }

    #[test]
    fn what_python_refuses_is_no_list() {
        for text in [
            "[",
            "[1,]",
            "[1 2]",
            "[01]",
            "[+1]",
            "[.5]",
            "[1.]",
            "[1e]",
            "[-]",
            "[\"\n\"]",
            "['a']",
            "[1]x",
            "[tru]",
            "[\"\\x\"]",
            "[\"\\u12g4\"]",
            "[\"a",
            "[\"\\ud800",
            "[\"\\ud800\u{1}\"]",
            "[{1:2}]",
            "[{\"a\" 1}]",
            "[\u{a0}1]",
        ] {
            assert_eq!(parse_string_list(text), StringList::Invalid, "{text:?}");
        }
        assert_eq!(parse_string_list(&format!("[{}]", "1".repeat(4301))), StringList::Invalid);
        assert_eq!(items(&format!("[-{}]", "1".repeat(4300))).len(), 1);
        assert_eq!(parse_string_list(&"[".repeat(2_000)), StringList::TooDeep);
    }
}
