//! Escapes, outside and inside of `[…]`.

use super::PatternError;
use super::parse::Parser;
use super::tree::{At, Class, CodePoint, Node, SetItem};

const BAD: PatternError = PatternError("bad escape");

fn category(c: char) -> Option<SetItem> {
    let (class, negated) = match c {
        'd' => (Class::Digit, false),
        'D' => (Class::Digit, true),
        's' => (Class::Space, false),
        'S' => (Class::Space, true),
        'w' => (Class::Word, false),
        'W' => (Class::Word, true),
        _ => return None,
    };
    Some(SetItem::Category { class, negated })
}

fn control(c: char) -> Option<CodePoint> {
    Some(match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        '\\' => 92,
        _ => return None,
    })
}

impl Parser {
    /// `\c` outside of a set.
    pub(super) fn escape(&mut self, c: char) -> Result<Node, PatternError> {
        let at = match c {
            'A' => At::TextStart,
            'b' => At::Boundary,
            'B' => At::NotBoundary,
            'Z' => At::TextEnd,
            '0' => {
                let digits = self.source.take_while(2, |c| c.is_digit(8));
                return number(&digits, 8).map(Node::Literal);
            }
            '1'..='9' => return self.reference_or_octal(c),
            _ => {
                if let Some(item) = category(c) {
                    return Ok(Node::Set { negated: false, items: vec![item] });
                }
                if let Some(code) = control(c) {
                    return Ok(Node::Literal(code));
                }
                return self.coded(c).map(Node::Literal);
            }
        };
        Ok(Node::At(at))
    }

    /// `\c` within a set.
    pub(super) fn set_escape(&mut self, c: char) -> Result<SetItem, PatternError> {
        if let Some(code) = control(c) {
            return Ok(SetItem::Literal(code));
        }
        if let Some(item) = category(c) {
            return Ok(item);
        }
        match c {
            '0'..='7' => {
                let mut digits = c.to_string();
                digits.push_str(&self.source.take_while(2, |c| c.is_digit(8)));
                octal(&digits).map(SetItem::Literal)
            }
            '8' | '9' => Err(BAD),
            _ => self.coded(c).map(SetItem::Literal),
        }
    }

    /// `\12` is group 12, but three octal digits are a character.
    fn reference_or_octal(&mut self, first: char) -> Result<Node, PatternError> {
        let mut digits = first.to_string();
        digits.push_str(&self.source.take_while(1, |c| c.is_ascii_digit()));
        if digits.len() == 2 && digits.chars().all(|c| c.is_digit(8)) {
            let third = self.source.take_while(1, |c| c.is_digit(8));
            if !third.is_empty() {
                digits.push_str(&third);
                return octal(&digits).map(Node::Literal);
            }
        }
        let group = digits.parse().map_err(|_| BAD)?;
        self.reference(group)
    }

    /// `\x41`, `\u0041`, `\U00000041`, and characters that stand for themselves; ASCII letters don't.
    fn coded(&mut self, c: char) -> Result<CodePoint, PatternError> {
        let length = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'N' => return Err(PatternError("this version doesn't know \\N{…}")),
            _ if c.is_ascii_alphabetic() => return Err(BAD),
            _ => return Ok(CodePoint::from(c)),
        };
        let digits = self.source.take_while(length, |c| c.is_ascii_hexdigit());
        if digits.len() != length {
            return Err(PatternError("incomplete escape"));
        }
        let code = number(&digits, 16)?;
        if code > 0x10_ffff { Err(BAD) } else { Ok(code) }
    }
}

fn number(digits: &str, radix: u32) -> Result<CodePoint, PatternError> {
    if digits.is_empty() {
        return Ok(0);
    }
    CodePoint::from_str_radix(digits, radix).map_err(|_| BAD)
}

fn octal(digits: &str) -> Result<CodePoint, PatternError> {
    match number(digits, 8)? {
        code if code > 0o377 => Err(PatternError("octal escape outside of 0-0o377")),
        code => Ok(code),
    }
}
