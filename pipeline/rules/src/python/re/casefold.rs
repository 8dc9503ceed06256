//! Case folding as Python's `re` does it: characters are equal that have one lower case, or whose lower cases have one
//! upper case.

use std::sync::LazyLock;

use crate::python::is_assigned;

/// Lower-case characters, each with the others of the same upper case.
#[rustfmt::skip]
static SAME_UPPER: &[(u32, &[u32])] = &[
    (0x69, &[0x131]), (0x73, &[0x17f]), (0xb5, &[0x3bc]), (0x131, &[0x69]), (0x17f, &[0x73]),
    (0x345, &[0x3b9, 0x1fbe]), (0x390, &[0x1fd3]), (0x3b0, &[0x1fe3]), (0x3b2, &[0x3d0]), (0x3b5, &[0x3f5]),
    (0x3b8, &[0x3d1]), (0x3b9, &[0x345, 0x1fbe]), (0x3ba, &[0x3f0]), (0x3bc, &[0xb5]), (0x3c0, &[0x3d6]),
    (0x3c1, &[0x3f1]), (0x3c2, &[0x3c3]), (0x3c3, &[0x3c2]), (0x3c6, &[0x3d5]), (0x3d0, &[0x3b2]), (0x3d1, &[0x3b8]),
    (0x3d5, &[0x3c6]), (0x3d6, &[0x3c0]), (0x3f0, &[0x3ba]), (0x3f1, &[0x3c1]), (0x3f5, &[0x3b5]), (0x432, &[0x1c80]),
    (0x434, &[0x1c81]), (0x43e, &[0x1c82]), (0x441, &[0x1c83]), (0x442, &[0x1c84, 0x1c85]), (0x44a, &[0x1c86]),
    (0x463, &[0x1c87]), (0x1c80, &[0x432]), (0x1c81, &[0x434]), (0x1c82, &[0x43e]), (0x1c83, &[0x441]),
    (0x1c84, &[0x442, 0x1c85]), (0x1c85, &[0x442, 0x1c84]), (0x1c86, &[0x44a]), (0x1c87, &[0x463]),
    (0x1c88, &[0xa64b]), (0x1e61, &[0x1e9b]), (0x1e9b, &[0x1e61]), (0x1fbe, &[0x345, 0x3b9]), (0x1fd3, &[0x390]),
    (0x1fe3, &[0x3b0]), (0xa64b, &[0x1c88]), (0xfb05, &[0xfb06]), (0xfb06, &[0xfb05]),
];

/// The other lower-case characters that are equal to this one.
pub(super) fn same_upper(lower: u32) -> &'static [u32] {
    SAME_UPPER.binary_search_by_key(&lower, |(code, _)| *code).map_or(&[], |at| SAME_UPPER[at].1)
}

/// The simple lower case.
pub(super) fn lower(code: u32) -> u32 {
    char::from_u32(code).and_then(|c| known(c, c.to_lowercase().next())).map_or(code, u32::from)
}

/// The simple upper case.
pub(super) fn upper(code: u32) -> u32 {
    char::from_u32(code).and_then(|c| known(c, c.to_uppercase().next())).map_or(code, u32::from)
}

/// The other case, where the reference's Python knows both characters.
fn known(c: char, other: Option<char>) -> Option<char> {
    other.filter(|other| *other == c || is_assigned(c) && is_assigned(*other))
}

/// Whether the character has another case.
pub(super) fn is_cased(code: u32) -> bool {
    lower(code) != code || upper(code) != code
}

/// The characters of the basic plane that have another case, in order: few of a wide range do.
pub(super) static CASED: LazyLock<Vec<u32>> =
    LazyLock::new(|| (0..=0xffff).filter(|code| is_cased(*code)).collect());

/// Lower case among ASCII letters only.
pub(super) fn ascii_lower(code: u32) -> u32 {
    if (0x41..=0x5a).contains(&code) { code + 0x20 } else { code }
}

/// Whether it is an ASCII letter.
pub(super) fn is_ascii_cased(code: u32) -> bool {
    (0x41..=0x5a).contains(&(code & !0x20)) && code < 128
}
