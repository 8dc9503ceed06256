//! Character properties as Python's `str` methods see them.

use std::borrow::Cow;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::unicode_14::is_assigned;

/// `str.isspace` of one character: bidirectional type WS, B or S, or category Zs.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c,
        '\t'..='\r' | '\u{1c}'..='\u{20}' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}'
        | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// `str.isalnum` of one character: every letter and every number, but no mark.
pub(crate) fn is_alphanumeric(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
        && is_assigned(c)
}

/// The value of a decimal digit of any script (category Nd).
pub(crate) fn decimal_digit(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.is_ascii_digit().then(|| c as u8 - b'0');
    }
    if !is_decimal(c) {
        return None;
    }
    let code = c as u32;
    // Unicode gives decimal digits out in runs from zero to nine; a character's place in its run is its value. (The
    // mathematical digits are five runs without a gap.)
    let before = (1..50).take_while(|back| char::from_u32(code - back).is_some_and(is_decimal)).count();
    u8::try_from(before % 10).ok()
}

/// Whether it is a decimal digit of any script, ASCII's included.
pub(crate) fn is_decimal(c: char) -> bool {
    c.general_category() == GeneralCategory::DecimalNumber && is_assigned(c)
}

/// `str.isprintable` of one character.
pub(crate) fn is_printable(c: char) -> bool {
    c == ' '
        || is_assigned(c)
            && !matches!(
                c.general_category(),
                GeneralCategory::Control
                    | GeneralCategory::Format
                    | GeneralCategory::Surrogate
                    | GeneralCategory::PrivateUse
                    | GeneralCategory::Unassigned
                    | GeneralCategory::LineSeparator
                    | GeneralCategory::ParagraphSeparator
                    | GeneralCategory::SpaceSeparator
            )
}

/// What `int()` and `float()` make of text before they read it: other scripts' digits and spaces become ASCII.
/// `None` when it holds anything else that isn't ASCII, which neither accepts.
pub(crate) fn ascii_number_text(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text));
    }
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else if is_space(c) {
            ascii.push(' ');
        } else {
            ascii.push(char::from(b'0' + decimal_digit(c)?));
        }
    }
    Some(Cow::Owned(ascii))
}

/// The whitespace that C's `isspace` knows, which is what `int()` and `float()` strip.
pub(crate) fn strip_ascii_space(text: &str) -> &str {
    text.trim_matches(['\t', '\n', '\u{b}', '\u{c}', '\r', ' '])
}
