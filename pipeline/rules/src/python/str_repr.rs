//! Python's `repr(str)`, which shows inside a list or an object of an IN operand.

use std::fmt::{self, Write};

use super::unicode::is_printable;

/// One code point of a Python string, which, unlike Rust's, may be half of a surrogate pair.
pub(crate) type CodePoint = u32;

/// Writes `repr` of a string: single quotes unless it holds one and no double quote; what can't be printed escaped.
pub(crate) fn write_repr(text: &[CodePoint], out: &mut String) -> fmt::Result {
    let holds = |quote: char| text.contains(&CodePoint::from(quote));
    let quote = if holds('\'') && !holds('"') { '"' } else { '\'' };
    out.push(quote);
    for &code in text {
        match char::from_u32(code) {
            Some(c) if c == quote || c == '\\' => {
                out.push('\\');
                out.push(c);
            }
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some(c) if is_printable(c) => out.push(c),
            _ if code <= 0xff => write!(out, "\\x{code:02x}")?,
            _ if code <= 0xffff => write!(out, "\\u{code:04x}")?,
            _ => write!(out, "\\U{code:08x}")?,
        }
    }
    out.push(quote);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repr_is_pythons() {
        for (text, expected) in [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("'\"", "'\\'\"'"),
            ("a\\b\n\0\u{7f}\u{ad}", "'a\\\\b\\n\\x00\\x7f\\xad'"),
            ("é😀\u{200b}\u{e0001}", "'é😀\\u200b\\U000e0001'"),
        ] {
            let codes: Vec<CodePoint> = text.chars().map(CodePoint::from).collect();
            let mut out = String::new();
            write_repr(&codes, &mut out).expect("writes");
            assert_eq!(out, expected);
        }
    }
}
