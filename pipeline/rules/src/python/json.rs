//! Python's `json.loads` of an IN operand, and `str()` of what the list holds.
//!
//! Python takes more than JSON: `NaN`, `Infinity`, halves of surrogate pairs. What it refuses with ValueError makes the
//! operand a comma list instead; nesting beyond its recursion limit raises.

use std::collections::HashMap;

use super::float_text::write_float;
use super::int_text::INT_DIGITS_MAX;
use super::str_repr::{CodePoint, write_repr};
use super::{bool_text, parse_float, parse_int};

/// Deeper nesting exceeds Python's recursion limit of 1,000 frames, of which the reference has used a few.
const DEPTH_MAX: usize = 900;

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
    let chars: Vec<char> = text.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0 };
    let list = match parser.value(0) {
        Ok(Json::List(items)) if parser.at_end() => items,
        Ok(_) | Err(Failure::Invalid) => return StringList::Invalid,
        Err(Failure::TooDeep) => return StringList::TooDeep,
    };
    StringList::Items(list.iter().filter_map(Json::text).collect())
}

enum Failure {
    Invalid,
    TooDeep,
}

enum Json {
    Null,
    Bool(bool),
    /// Its text as Python prints it.
    Int(String),
    Float(f64),
    Str(Vec<CodePoint>),
    List(Vec<Json>),
    /// Keys once each, in the order in which they first stood.
    Object(Vec<(Vec<CodePoint>, Json)>),
}

impl Json {
    /// Python's `str()`, where it is text that can be compared with.
    fn text(&self) -> Option<String> {
        if let Self::Str(codes) = self {
            return codes.iter().map(|code| char::from_u32(*code)).collect();
        }
        let mut out = String::new();
        self.write_repr(&mut out).ok()?;
        Some(out)
    }

    fn write_repr(&self, out: &mut String) -> std::fmt::Result {
        match self {
            Self::Null => out.push_str("None"),
            Self::Bool(b) => out.push_str(bool_text(*b)),
            Self::Int(digits) => out.push_str(digits),
            Self::Float(x) => write_float(*x, out)?,
            Self::Str(codes) => write_repr(codes, out)?,
            Self::List(items) => {
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
                    write_repr(key, out)?;
                    out.push_str(": ");
                    value.write_repr(out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Result<char, Failure> {
        let c = self.peek().ok_or(Failure::Invalid)?;
        self.at += 1;
        Ok(c)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.chars.len()
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Failure> {
        for expected in word.chars() {
            if self.next()? != expected {
                return Err(Failure::Invalid);
            }
        }
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Json, Failure> {
        match self.peek().ok_or(Failure::Invalid)? {
            '[' | '{' if depth >= DEPTH_MAX => Err(Failure::TooDeep),
            '[' => self.list(depth + 1),
            '{' => self.object(depth + 1),
            '"' => self.string().map(Json::Str),
            'n' => self.word("null", Json::Null),
            't' => self.word("true", Json::Bool(true)),
            'f' => self.word("false", Json::Bool(false)),
            'N' => self.word("NaN", Json::Float(f64::NAN)),
            'I' => self.word("Infinity", Json::Float(f64::INFINITY)),
            '-' if self.chars.get(self.at + 1) == Some(&'I') => {
                self.word("-Infinity", Json::Float(f64::NEG_INFINITY))
            }
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, Failure> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(']') {
            self.at += 1;
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            match self.next()? {
                ',' => self.skip_space(),
                ']' => return Ok(Json::List(items)),
                _ => return Err(Failure::Invalid),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Failure> {
        self.at += 1;
        let mut entries: Vec<(Vec<CodePoint>, Json)> = Vec::new();
        let mut known: HashMap<Vec<CodePoint>, usize> = HashMap::new();
        self.skip_space();
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(Json::Object(entries));
        }
        loop {
            if self.peek() != Some('"') {
                return Err(Failure::Invalid);
            }
            let key = self.string()?;
            self.skip_space();
            if self.next()? != ':' {
                return Err(Failure::Invalid);
            }
            self.skip_space();
            let value = self.value(depth)?;
            match known.get(&key) {
                Some(at) => entries[*at].1 = value,
                None => {
                    known.insert(key.clone(), entries.len());
                    entries.push((key, value));
                }
            }
            self.skip_space();
            match self.next()? {
                ',' => self.skip_space(),
                '}' => return Ok(Json::Object(entries)),
                _ => return Err(Failure::Invalid),
            }
        }
    }

    fn string(&mut self) -> Result<Vec<CodePoint>, Failure> {
        self.at += 1;
        let mut codes = Vec::new();
        loop {
            match self.next()? {
                '"' => return Ok(codes),
                '\\' => {
                    let code = self.escape()?;
                    codes.push(code);
                }
                c if c < ' ' => return Err(Failure::Invalid),
                c => codes.push(CodePoint::from(c)),
            }
        }
    }

    fn escape(&mut self) -> Result<CodePoint, Failure> {
        Ok(CodePoint::from(match self.next()? {
            'u' => return self.unicode_escape(),
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            c @ ('"' | '\\' | '/') => c,
            _ => return Err(Failure::Invalid),
        }))
    }

    /// After `\u`: one unit, or a pair of surrogates joined. A half without its other half stays as it is.
    fn unicode_escape(&mut self) -> Result<CodePoint, Failure> {
        let high = self.hex4()?;
        let paired = self.chars.get(self.at..self.at + 2) == Some(&['\\', 'u']);
        if !(0xd800..0xdc00).contains(&high) || !paired {
            return Ok(high);
        }
        let back = self.at;
        self.at += 2;
        match self.hex4() {
            Ok(low) if (0xdc00..0xe000).contains(&low) => {
                Ok(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            }
            Ok(_) | Err(_) => {
                self.at = back;
                Ok(high)
            }
        }
    }

    fn hex4(&mut self) -> Result<CodePoint, Failure> {
        let mut code = 0;
        for _ in 0..4 {
            code = code * 16 + self.next()?.to_digit(16).ok_or(Failure::Invalid)?;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Json, Failure> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        match self.peek() {
            Some('0') => self.at += 1,
            Some('1'..='9') => self.digits(),
            _ => return Err(Failure::Invalid),
        }
        let int_end = self.at;
        if self.peek() == Some('.') && self.digit_at(self.at + 1) {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let signed = usize::from(matches!(self.chars.get(self.at + 1), Some('+' | '-')));
            if self.digit_at(self.at + 1 + signed) {
                self.at += 1 + signed;
                self.digits();
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if self.at > int_end {
            return parse_float(&text).map(Json::Float).ok_or(Failure::Invalid);
        }
        if text.trim_start_matches('-').len() > INT_DIGITS_MAX {
            return Err(Failure::Invalid);
        }
        parse_int(&text).map(|n| Json::Int(n.text())).ok_or(Failure::Invalid)
    }

    fn digit_at(&self, at: usize) -> bool {
        self.chars.get(at).is_some_and(char::is_ascii_digit)
    }

    fn digits(&mut self) {
        while self.digit_at(self.at) {
            self.at += 1;
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
        assert!(items("[]").is_empty());
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
            "[\"\n\"]",
            "['a']",
            "[1]x",
            "[tru]",
            "[\"\\x\"]",
        ] {
            assert_eq!(parse_string_list(text), StringList::Invalid, "{text:?}");
        }
        assert_eq!(parse_string_list(&"[".repeat(2_000)), StringList::TooDeep);
    }
}
