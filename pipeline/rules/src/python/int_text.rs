//! Python's `int(text)`.

use std::cmp::Ordering;

use num_bigint::BigInt;

use super::unicode::{ascii_number_text, strip_ascii_space};

/// `sys.get_int_max_str_digits()`: text of more digits is no int.
pub(crate) const INT_DIGITS_MAX: usize = 4300;

/// An int of any size; small ones are compared without a heap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Int {
    /// In 64 bits.
    Small(i64),
    /// Beyond them.
    Big(BigInt),
}

impl Int {
    /// How `left` compares with this.
    pub(crate) fn compare_small(&self, left: i64) -> Ordering {
        match self {
            Self::Small(right) => left.cmp(right),
            Self::Big(right) => BigInt::from(left).cmp(right),
        }
    }

    /// How `left` compares with this.
    pub(crate) fn compare_big(&self, left: &BigInt) -> Ordering {
        match self {
            Self::Small(right) => left.cmp(&BigInt::from(*right)),
            Self::Big(right) => left.cmp(right),
        }
    }

    /// Its decimal text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Small(n) => n.to_string(),
            Self::Big(n) => n.to_string(),
        }
    }
}

/// `int(text)`, `None` for ValueError: space around, one sign, digits of any script with single underscores between.
pub(crate) fn parse_int(text: &str) -> Option<Int> {
    let text = ascii_number_text(text)?;
    let text = strip_ascii_space(&text);
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut digits = String::with_capacity(unsigned.len() + 1);
    if negative {
        digits.push('-');
    }
    for group in unsigned.split('_') {
        if group.is_empty() || !group.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.push_str(group);
    }
    if digits.len() - usize::from(negative) > INT_DIGITS_MAX {
        return None;
    }
    if let Ok(n) = digits.parse() {
        return Some(Int::Small(n));
    }
    digits.parse().ok().map(Int::Big)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_int_accepts() {
        for (text, n) in [
            (" 10 ", 10),
            ("+10", 10),
            ("010", 10),
            ("1_0", 10),
            ("-0", 0),
            ("١٠", 10),
            ("\u{a0}7\u{3000}", 7),
            ("𝟗", 9),
            ("0_1", 1),
            ("\t1\r\n", 1),
        ] {
            assert_eq!(parse_int(text), Some(Int::Small(n)), "{text:?}");
        }
        for text in [
            "", " ", "10.0", "1e1", "_1", "1_", "1__0", "+ 1", "--1", "0x10", "½", "²", "1\0", "\u{1c}1",
            "1a",
        ] {
            assert_eq!(parse_int(text), None, "{text:?}");
        }
        let big = "1".repeat(40);
        assert_eq!(parse_int(&big), Some(Int::Big(big.parse().unwrap())));
        assert_eq!(parse_int(&"1".repeat(4301)), None);
    }

    #[test]
    fn ints_of_all_sizes_compare() {
        let big = Int::Big(BigInt::from(i64::MAX) + 1);
        assert_eq!(big.compare_small(i64::MAX), Ordering::Less);
        assert_eq!(Int::Small(0).compare_big(&-(BigInt::from(u64::MAX))), Ordering::Less);
    }
}
