//! Values of traits, at the edges of what types hold.

use num_bigint::BigInt;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rollcall_model::Value;

use super::pick;

const INTS: &[i64] = &[
    0,
    1,
    -1,
    2,
    7,
    10,
    -10,
    100,
    1_000_000,
    i64::MAX,
    i64::MIN,
    i64::MAX - 1,
    (1 << 53) - 1,
    1 << 53,
    (1 << 53) + 1,
    -(1 << 53) + 1,
    -(1 << 53),
    -(1 << 53) - 1,
    i32::MAX as i64,
];

const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.5,
    10.0,
    0.1,
    0.300_000_000_000_000_04,
    1e16,
    9_999_999_999_999_998.0,
    1e22,
    1e-4,
    1e-5,
    1e-7,
    5e-324,
    1.797_693_134_862_315_7e308,
    9_007_199_254_740_993.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// Text on which engines disagree.
pub(super) const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "ab",
    "abc",
    "abd",
    "growth",
    "None",
    "True",
    "true",
    "False",
    "false",
    "FALSE",
    "0",
    "1",
    "-1",
    "-0",
    "00",
    "007",
    "010",
    "10",
    " 10 ",
    "10 ",
    "+10",
    "1_0",
    "1__0",
    "_1",
    "1e3",
    "1e1",
    "10.0",
    "10.",
    ".5",
    "1.50",
    "-0.0",
    "1_0.5",
    "0x10",
    "inf",
    "-inf",
    "Infinity",
    "nan",
    "NaN",
    "1e400",
    "-",
    "--1",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "9007199254740991",
    "-9007199254740991",
    "-9007199254740992",
    "-9007199254740993",
    "9223372036854775806",
    "18446744073709551615",
    "18446744073709551616",
    "1234567890123456789012345678901234567890",
    "-1234567890123456789012345678901234567890",
    "2024-01-01",
    "2024-02-01",
    "2024-01-01T10:00:00+02:00",
    "1999/01/02",
    "1.2.3",
    "1.2.4",
    "1.10.0",
    "1.2.3-rc.1",
    "1.2.3-rc.2",
    "1.2.3-rc.10",
    "1.2.3-alpha",
    "1.2.3+build",
    "1.2.3-a.b+c.d",
    "1.2",
    "v1.2.3",
    "01.2.3",
    "1.2.3-01",
    "1.2.3\n",
    "1.2.3.4",
    "99999999999999999999.0.0",
    "1.2.3:semver",
    ":semver",
    "semver",
    "1.2.3-rc.1:semver",
    "1.2:semver",
    "rc.1:semver",
    "١٠",
    "٣",
    "１０",
    "½",
    "²",
    "é",
    "e\u{301}",
    "É",
    "ß",
    "ẞ",
    "ı",
    "İ",
    "ſ",
    "K",
    "ﬁ",
    "Σ",
    "ς",
    "日本",
    "😀",
    "\u{ffff}",
    "\u{10000}",
    "\u{10400}",
    "\u{10428}",
    "\0",
    "a\0b",
    "a\n",
    "a\n\n",
    "\n",
    "a\nb",
    "\t1",
    "\u{a0}1",
    "\u{2003}1\u{2003}",
    "\u{1c}1",
    "\u{85}",
    "\u{200b}",
    "'",
    "\"",
    "it's",
    "\\",
    "\\d",
    "%",
    "50%",
    "[",
    "]",
    "[]",
    "[1]",
    "[1,2]",
    "[\"a\"]",
    "a,b",
    "1,2",
    "1, 2",
    ",",
    "|",
    "2|0",
    "0|0",
    "$",
    "$.a",
    "a@b.com",
    "user6533",
    "aaaa",
    "aaaaaaaa!",
];

/// Any value.
pub(super) fn value(rng: &mut StdRng) -> Value {
    match rng.random_range(0..100) {
        0..4 => Value::Null,
        4..14 => Value::Bool(rng.random_bool(0.5)),
        14..34 => int(rng),
        34..50 => Value::Float(float(rng)),
        _ => Value::Str(text(rng)),
    }
}

fn int(rng: &mut StdRng) -> Value {
    match rng.random_range(0..20) {
        0..12 => Value::Int(INTS.choose(rng).copied().unwrap_or_default()),
        12..17 => Value::Int(rng.random_range(-100..100)),
        17 => Value::Int(rng.random()),
        18 => {
            let near = if rng.random_bool(0.5) { BigInt::from(i64::MAX) } else { BigInt::from(i64::MIN) };
            Value::int(near + rng.random_range(-2..=2))
        }
        _ => {
            let digits = *[20_u32, 39, 40, 308, 309, 400, 4299, 4300].choose(rng).unwrap_or(&20);
            let power = BigInt::from(10).pow(digits) + rng.random_range(-1..=1);
            Value::int(if rng.random_bool(0.5) { power } else { -power })
        }
    }
}

fn float(rng: &mut StdRng) -> f64 {
    match rng.random_range(0..10) {
        0..6 => FLOATS.choose(rng).copied().unwrap_or_default(),
        6 => f64::from_bits(rng.random()),
        7 => f64::from(rng.random_range(-100..100)),
        _ => f64::from(rng.random_range(-1000..1000)) / 8.0,
    }
}

/// Any text, mostly from the list, else put together or changed.
pub(super) fn text(rng: &mut StdRng) -> String {
    match rng.random_range(0..100) {
        0..50 => pick(rng, TEXTS).to_owned(),
        50..60 => letters(rng),
        60..70 => format!("{}{}", pick(rng, TEXTS), pick(rng, TEXTS)),
        70..85 => {
            let text = pick(rng, TEXTS);
            changed(rng, text)
        }
        85..90 => rng.random_range(-1000..1000).to_string(),
        90..94 => format!("user{}", rng.random_range(0..100_000)),
        94 => "9".repeat(*[19_usize, 40, 4300, 4301].choose(rng).unwrap_or(&19)),
        _ => (0..rng.random_range(0..8)).map(|_| character(rng)).collect(),
    }
}

/// Text of few letters, which generated expressions are made of, too.
fn letters(rng: &mut StdRng) -> String {
    (0..rng.random_range(1..12)).map(|_| pick(rng, &["a", "a", "b", "b", "c", "1", "k", "\n", "é"])).collect()
}

/// A character that matters to some rule of text.
pub(super) fn character(rng: &mut StdRng) -> char {
    const CHARACTERS: &[char] = &[
        'a',
        'b',
        'c',
        'A',
        'k',
        's',
        'i',
        'x',
        '0',
        '1',
        '2',
        '9',
        ' ',
        '\n',
        '\t',
        '.',
        ',',
        '-',
        '+',
        '_',
        '[',
        ']',
        '"',
        '\'',
        '\\',
        '|',
        '$',
        '^',
        '(',
        ')',
        '{',
        '}',
        '*',
        '?',
        ':',
        'e',
        'é',
        'É',
        '٣',
        '²',
        '\u{301}',
        '\u{a0}',
        '日',
        '😀',
        'K',
        'ſ',
        'İ',
        'ı',
        'σ',
        'ς',
        '\u{10428}',
        '\u{0}',
        '\u{1d7d9}',
        'ǅ',
        'ΐ',
        '\u{345}',
        'ῼ',
        'Ω',
    ];
    CHARACTERS.choose(rng).copied().unwrap_or('a')
}

/// Text with one character left out, doubled, put in or replaced.
pub(super) fn changed(rng: &mut StdRng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = rng.random_range(0..=chars.len());
    match rng.random_range(0..4) {
        0 if at < chars.len() => {
            chars.remove(at);
        }
        1 if at < chars.len() => chars.insert(at, chars[at]),
        2 if at < chars.len() => chars[at] = character(rng),
        _ => chars.insert(at, character(rng)),
    }
    chars.into_iter().collect()
}
