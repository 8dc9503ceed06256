//! IN: one of a list of texts.
//!
//! The operand is a JSON list when it starts with `[` and parses, else it is split at commas, spaces kept. Text is
//! looked up as it is, an int by its digits; bools and floats are in no list. So `"007"`, which became 7, is not in
//! `"007,008"`.

use std::collections::HashSet;

use crate::judge::Raised;
use crate::python::{StringList, parse_string_list};
use crate::subject::Subject;

/// How many texts of a list are shown to people.
const SHOWN_ITEMS_MAX: usize = 20;

/// IN with its operand.
#[derive(Clone, Debug)]
pub(crate) enum InList {
    /// The texts.
    Items {
        /// All of them.
        texts: HashSet<Box<str>>,
        /// Those that are the digits of an int in 64 bits, so that ints are found without writing them.
        ints: HashSet<i64>,
    },
    /// Raises whatever the value.
    Raises(&'static str),
}

impl InList {
    pub(super) fn new(value: Option<&str>) -> Self {
        let Some(value) = value else { return Self::Raises("IN without a list raises in the reference") };
        if value.starts_with('[') {
            match parse_string_list(value) {
                StringList::Items(items) => return Self::of(items.iter().map(String::as_str)),
                StringList::Invalid => {}
                StringList::TooDeep => {
                    return Self::Raises("a list nested this deep raises in the reference");
                }
            }
        }
        Self::of(value.split(','))
    }

    fn of<'a>(items: impl Iterator<Item = &'a str>) -> Self {
        let texts: HashSet<Box<str>> = items.map(Box::from).collect();
        let ints = texts.iter().filter_map(|text| canonical_int(text)).collect();
        Self::Items { texts, ints }
    }

    pub(super) fn unsupported(&self) -> Option<String> {
        match self {
            Self::Items { .. } => None,
            Self::Raises(reason) => Some((*reason).to_owned()),
        }
    }

    /// # Errors
    /// An operand of nothing; an int too long for `str()`.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> Result<bool, Raised> {
        let (texts, ints) = match self {
            Self::Items { texts, ints } => (texts, ints),
            Self::Raises(reason) => return Err(Raised::new(*reason)),
        };
        Ok(match subject {
            Subject::Missing | Subject::Bool(_) | Subject::Float(_) => false,
            Subject::Text(text) => texts.contains(*text),
            Subject::Int(n) => ints.contains(n),
            Subject::BigInt(_) => texts.contains(&*subject.to_text()?),
        })
    }

    pub(super) fn cast_text(&self) -> Option<String> {
        match self {
            Self::Items { texts, .. } => {
                let mut sorted: Vec<&str> = texts.iter().map(|text| &**text).collect();
                sorted.sort_unstable();
                let shown = &sorted[..sorted.len().min(SHOWN_ITEMS_MAX)];
                let more = match sorted.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Some(format!("one of {shown:?}{more}"))
            }
            Self::Raises(_) => None,
        }
    }
}

fn canonical_int(text: &str) -> Option<i64> {
    let n: i64 = text.parse().ok()?;
    (text.len() <= 20 && n.to_string() == text).then_some(n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::borrow::Cow;

    fn holds(subject: &Subject<'_>, value: &str) -> bool {
        InList::new(Some(value)).holds(subject).unwrap()
    }

    #[test]
    fn comma_lists_keep_their_spaces() {
        assert!(holds(&Subject::Int(1), "1, 2") && !holds(&Subject::Int(2), "1, 2"));
        assert!(holds(&Subject::Text(" 2"), "1, 2"));
        assert!(holds(&Subject::Text(""), "") && holds(&Subject::Text(""), "a,"));
        assert!(!holds(&Subject::Int(7), "007"));
        assert!(!holds(&Subject::Bool(true), "True,1") && !holds(&Subject::Float(1.5), "1.5"));
        let big = Subject::BigInt(Cow::Owned("123456789012345678901".parse().unwrap()));
        assert!(holds(&big, "123456789012345678901"));
    }

    #[test]
    fn json_lists_hold_pythons_text() {
        assert!(holds(&Subject::Int(1), "[1, \"b\"]") && holds(&Subject::Text("b"), "[1, \"b\"]"));
        assert!(holds(&Subject::Text("True"), "[true]") && holds(&Subject::Text("None"), "[null]"));
        assert!(holds(&Subject::Text("[1"), "[1,2"), "not JSON: a comma list");
        assert!(holds(&Subject::Text(" [1]"), " [1]"), "a space before: a comma list");
        assert!(!holds(&Subject::Text(""), "[]"));
    }

    #[test]
    fn long_lists_are_shortened_for_people() {
        assert_eq!(InList::new(Some("b,a")).cast_text().as_deref(), Some(r#"one of ["a", "b"]"#));
        let long = (0..23).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert!(InList::new(Some(&long)).cast_text().unwrap().ends_with(r#""6"] and 3 more"#));
    }

    #[test]
    fn nothing_raises() {
        assert!(InList::new(None).unsupported().is_some());
        assert!(InList::new(None).holds(&Subject::Missing).is_err());
    }
}
