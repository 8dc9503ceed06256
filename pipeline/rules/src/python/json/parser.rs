//! From text to values, over its bytes. Strings without an escape are borrowed from the text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{Json, Text};
use crate::python::int_text::{INT_DIGITS_MAX, Int, parse_int};
use crate::python::str_repr::CodePoint;

/// Objects up to this size are searched for a key that stands twice by comparing, larger ones by hashing.
const COMPARED_ENTRIES_MAX: usize = 32;

/// Why text can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// Something else should stand at this byte.
    Expected {
        /// What.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// An int of too many digits ends before this byte.
    Digits {
        /// Where.
        at: usize,
    },
    /// Nested deeper than was allowed.
    TooDeep,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { what, at } => write!(f, "{what} expected at byte {at}"),
            Self::Digits { at } => {
                write!(
                    f,
                    "the int before byte {at} has more than the {INT_DIGITS_MAX} digits that Python reads"
                )
            }
            Self::TooDeep => f.write_str("nested too deep"),
        }
    }
}

/// Reads values off a text, one after the other.
#[derive(Debug)]
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
}

impl<'a> Parser<'a> {
    /// Recurses no deeper than `depth_max` lists and objects.
    pub(crate) fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text, at: 0, depth_max }
    }

    /// The next byte.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a str {
        self.since(self.at, self.text.len())
    }

    /// Goes over text that is known.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Both ends stand before or after an ASCII byte, or at an end of the text.
    fn since(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn expected(&self, what: &'static str) -> Failure {
        Failure::Expected { what, at: self.at }
    }

    pub(crate) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Nothing but space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// One given byte.
    pub(crate) fn byte(&mut self, byte: u8, what: &'static str) -> Result<(), Failure> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &'static str, value: Json<'a>) -> Result<Json<'a>, Failure> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// A value; `depth` is how many lists and objects are open around it.
    pub(crate) fn value(&mut self, depth: usize) -> Result<Json<'a>, Failure> {
        match self.peek().ok_or_else(|| self.expected("a value"))? {
            b'[' | b'{' if depth >= self.depth_max => Err(Failure::TooDeep),
            b'[' => self.list(depth + 1),
            b'{' => self.object(depth + 1),
            b'"' => self.string().map(Json::Text),
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'N' => self.word("NaN", Json::Float(f64::NAN)),
            b'I' => self.word("Infinity", Json::Float(f64::INFINITY)),
            b'-' if self.text.as_bytes().get(self.at + 1) == Some(&b'I') => {
                self.word("-Infinity", Json::Float(f64::NEG_INFINITY))
            }
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json<'a>, Failure> {
        let start = self.at;
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List { items, raw: self.since(start, self.at) });
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::List { items, raw: self.since(start, self.at) });
                }
                _ => return Err(self.expected("',' or ']'")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, Failure> {
        let mut entries = Vec::new();
        self.entries(|parser, key| {
            let value = parser.value(depth)?;
            entries.push((key, value));
            Ok(())
        })?;
        Ok(Json::Object(distinct(entries)))
    }

    /// An object's keys in turn, whose values `value` reads; a key may come twice.
    pub(crate) fn entries(
        &mut self,
        mut value: impl FnMut(&mut Self, Text<'a>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.byte(b'{', "'{'")?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key"));
            }
            let key = self.string()?;
            self.skip_space();
            self.byte(b':', "':'")?;
            self.skip_space();
            value(self, key)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.skip_space();
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.expected("',' or '}'")),
            }
        }
    }

    /// Goes on to the next quote, backslash, control character or the end.
    fn plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let special = |b: &u8| matches!(*b, b'"' | b'\\' | 0..0x20);
        self.at += rest.iter().position(special).unwrap_or(rest.len());
    }

    fn string(&mut self) -> Result<Text<'a>, Failure> {
        self.at += 1;
        let start = self.at;
        self.plain();
        let plain = self.since(start, self.at);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Text::Whole(Cow::Borrowed(plain)));
        }
        let mut text = plain.to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text::Whole(Cow::Owned(text)));
                }
                Some(b'\\') => {
                    let code = self.escape()?;
                    match char::from_u32(code) {
                        Some(c) => text.push(c),
                        None => return self.string_with_halves(&text, code),
                    }
                }
                Some(0..0x20) => return Err(self.expected("an escape instead of a control character")),
                Some(_) => {
                    let start = self.at;
                    self.plain();
                    text.push_str(self.since(start, self.at));
                }
                None => return Err(self.expected("'\"'")),
            }
        }
    }

    /// The rest of a string that has half of a pair after `before`.
    fn string_with_halves(&mut self, before: &str, half: CodePoint) -> Result<Text<'a>, Failure> {
        let mut codes: Vec<CodePoint> = before.chars().map(CodePoint::from).collect();
        codes.push(half);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text::Halves(codes));
                }
                Some(b'\\') => codes.push(self.escape()?),
                Some(0..0x20) => return Err(self.expected("an escape instead of a control character")),
                Some(_) => {
                    let start = self.at;
                    self.plain();
                    codes.extend(self.since(start, self.at).chars().map(CodePoint::from));
                }
                None => return Err(self.expected("'\"'")),
            }
        }
    }

    /// At a backslash.
    fn escape(&mut self) -> Result<CodePoint, Failure> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            _ => return Err(self.expected("an escape")),
        };
        self.at += 1;
        Ok(CodePoint::from(c))
    }

    /// After `\u`: one unit, or a pair of surrogates joined. A half without its other half stays as it is.
    fn unicode_escape(&mut self) -> Result<CodePoint, Failure> {
        let high = self.hex4()?;
        let paired = self.text.as_bytes()[self.at..].starts_with(b"\\u");
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
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.expected("a hexadecimal digit"))?;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Json<'a>, Failure> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits_start = self.at;
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => {
                self.at = start;
                return Err(self.expected("a value"));
            }
        }
        let int_end = self.at;
        if self.peek() == Some(b'.') && self.digit_at(self.at + 1) {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let signed = usize::from(matches!(self.text.as_bytes().get(self.at + 1), Some(b'+' | b'-')));
            if self.digit_at(self.at + 1 + signed) {
                self.at += 1 + signed;
                self.digits();
            }
        }
        let text = self.since(start, self.at);
        if self.at > int_end {
            // JSON's floats are a part of Rust's grammar, and both round to nearest.
            return text.parse().map(Json::Float).map_err(|_| self.expected("a value"));
        }
        if int_end - digits_start > INT_DIGITS_MAX {
            return Err(Failure::Digits { at: self.at });
        }
        if let Ok(n) = text.parse() {
            return Ok(Json::Int(Int::Small(n)));
        }
        parse_int(text).map(Json::Int).ok_or_else(|| self.expected("a value"))
    }

    fn digit_at(&self, at: usize) -> bool {
        self.text.as_bytes().get(at).is_some_and(u8::is_ascii_digit)
    }

    fn digits(&mut self) {
        while self.digit_at(self.at) {
            self.at += 1;
        }
    }
}

/// Each key once: where it first stood, with its last value.
fn distinct<'a>(entries: Vec<(Text<'a>, Json<'a>)>) -> Vec<(Text<'a>, Json<'a>)> {
    let repeats = if entries.len() <= COMPARED_ENTRIES_MAX {
        (1..entries.len()).any(|n| entries[..n].iter().any(|(known, _)| *known == entries[n].0))
    } else {
        let keys: HashSet<&Text<'_>> = entries.iter().map(|(key, _)| key).collect();
        keys.len() < entries.len()
    };
    if !repeats {
        return entries;
    }
    let mut places: HashMap<Text<'a>, usize> = HashMap::new();
    let mut once: Vec<(Text<'a>, Json<'a>)> = Vec::new();
    for (key, value) in entries {
        match places.get(&key) {
            Some(place) => once[*place].1 = value,
            None => {
                places.insert(key.clone(), once.len());
                once.push((key, value));
            }
        }
    }
    once
}
