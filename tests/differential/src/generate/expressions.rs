//! Regular expressions in Python's dialect, and near misses of it.

use rand::RngExt;
use rand::rngs::StdRng;

use super::pick;
use super::values::{changed, character};

const EXPRESSIONS: &[&str] = &[
    "",
    "a",
    "^a$",
    "a$",
    r"a\Z",
    r"^\d+$",
    r"\w+",
    r"\W",
    r"\s",
    r"\S+",
    ".*",
    ".+$",
    "^.$",
    r"[a-z]+$",
    "[^a-z]",
    "(?i)abc",
    "(?i)é",
    "(?s).*b",
    "(?m)^a$",
    "(?x) a b # c",
    "(?=a)",
    "(?!a).*",
    "(?<=a)b",
    "a(?<=a)b",
    "a(?<!b)",
    "(a)(b)?",
    r"(a)\1",
    r"(?P<x>a)(?P=x)",
    "(a)?(?(1)b|c)",
    "(?:a|ab)c?$",
    "a{2}",
    "a{2,}$",
    "a{,3}$",
    "a{1,2}?b",
    "a*?b",
    "a++",
    "(?>a+)b",
    "[",
    "(",
    ")",
    "*",
    "a**",
    r"\",
    r"\d{2,1}",
    "[z-a]",
    r"\1",
    "(?P<1>a)",
    "(?<x>a)",
    "(?i",
    "a(?i)",
    "(?-i:a)",
    "(?i:A)b",
    "(?a:\\w)",
    "(?u:\\w)",
    "(?L)a",
    r"\x61",
    r"\u0061",
    r"\U00000061",
    r"\141",
    r"\0",
    r"\07",
    r"\400",
    r"\a",
    r"\q",
    r"[\b]",
    r"\bfoo\b",
    r"\b",
    r"\B",
    "[[:alpha:]]",
    "[]a]",
    "[^]a]",
    "[a-]",
    r"[\d-z]",
    "[a&&b]",
    "[\\w]",
    "[\\W\\d]",
    "(a|b)*c?$",
    "(a*)*$",
    "(a+)+$",
    "(?:)*",
    "()+",
    "(a?){3}",
    "(?:a?)*?$",
    "(?:a*?)+?$",
    "x*",
    "(|a)+",
    "(a|)+b",
    "^*",
    "$$",
    "(?#c)a",
    "a(?#c)*",
    "None",
    "True|False",
    "1\\.0",
    "nan|inf",
    "-?[0-9]+",
    r"^[\w.+-]+@[\w-]+\.[\w.-]+$",
    r"^(\d{4})-(\d{2})-(\d{2})",
    r"^v?(\d+)\.(\d+)",
    "(?i)[k-m]",
    "(?i)ß",
    "(?i)[ß]",
    "(?i)\u{17f}",
    "(?i)\u{212a}",
    "(?i)[^k]",
    "(?i)\u{10400}",
    "(?i)[\u{10400}]",
    "(?i)[\u{10400}-\u{10410}]",
    "(?i)[^\u{10400}x]",
    "(?ai)\u{212a}|k",
    "(?a)\\w+$",
    "(?a)\\d",
    "(?a)\\s",
    "(?t)a",
    "(?t)a*",
    "[\\ud800]",
    "\\ud83d",
    "(?i)(a)\\1",
    "(?i)(σ)\\1",
    "(?<=(a))\\1",
    "((a)|b)*\\2",
    "(?:(a)|b)*\\1",
    "(a(?=(b)))\\2",
    "(?!(a))\\1",
    "(?=(a+))\\1b",
    "(?:(a)|(b)|c)*(?(1)x|y)",
    "(a)|b(?(1)c|d)",
    "a{0}",
    "a{0,0}b",
    "(a){0}\\1",
    "a{4294967294,}",
    "a{4294967295}",
    "{",
    "a{",
    "a{b}",
    "a{1",
    "}",
    "a|b|",
    "|a",
    "(?:a|b|c)d",
    "(?:ab|ac|ad)$",
];

const ATOMS: &[&str] = &[
    "a",
    "b",
    "c",
    "1",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\D",
    r"\W",
    r"\S",
    "[ab]",
    "[^a]",
    "[a-c]",
    r"[\d_]",
    "é",
    "k",
    "(?:ab)",
    "(a)",
    "(b|c)",
    "(?:a|)",
    "()",
    "^",
    "$",
    r"\b",
    r"\B",
    r"\A",
    r"\Z",
    r"\1",
    r"\2",
    "(?=a)",
    "(?!b)",
    "(?<=a)",
    "(?<!b)",
    "(?>a|ab)",
    "(?(1)a|b)",
    "(?P<n>a)",
    "(?P=n)",
    "(?i:k)",
    "\\n",
    "\\.",
    "\\\\",
    "(?:a*)",
    "(a*)",
    "(a|b)",
    "((a)b)",
    "(?:(a)|b)",
];

/// A pattern, with a text in mind that it may be matched with. Counts are small: Python has no bound on its steps.
pub(super) fn expression(rng: &mut StdRng, text: &str) -> String {
    match rng.random_range(0..10) {
        0..3 => pick(rng, EXPRESSIONS).to_owned(),
        3 => {
            let expression = pick(rng, EXPRESSIONS).to_owned();
            changed(rng, &expression)
        }
        4 => like(rng, text),
        5 => (0..rng.random_range(0..6)).map(|_| character(rng)).collect(),
        _ => {
            let flags = pick(rng, &["", "", "", "", "(?i)", "(?s)", "(?m)", "(?a)", "(?x)", "(?ia)"]);
            let body = alternatives(rng, 2);
            format!("{flags}{body}")
        }
    }
}

fn alternatives(rng: &mut StdRng, depth: usize) -> String {
    let branches: Vec<String> =
        (0..if rng.random_bool(0.8) { 1 } else { 2 }).map(|_| sequence(rng, depth)).collect();
    branches.join("|")
}

fn sequence(rng: &mut StdRng, depth: usize) -> String {
    let mut parts = String::new();
    for _ in 0..rng.random_range(0..5) {
        if depth > 0 && rng.random_bool(0.25) {
            let open = pick(rng, &["(", "(?:", "(?=", "(?!", "(?>", "(?<=", "(?i:"]);
            parts.push_str(&format!("{open}{})", alternatives(rng, depth - 1)));
        } else {
            parts.push_str(pick(rng, ATOMS));
        }
        if rng.random_bool(0.35) {
            parts.push_str(pick(
                rng,
                &[
                    "*", "+", "?", "*?", "+?", "??", "*+", "++", "?+", "{2}", "{0,2}", "{1,2}?", "{2}+",
                    "{,2}", "{0}",
                ],
            ));
        }
    }
    parts
}

/// The text itself, here and there generalised.
fn like(rng: &mut StdRng, text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars().take(30) {
        match rng.random_range(0..8) {
            0 => pattern.push('.'),
            1 => pattern.push_str(r"\w"),
            2 => pattern.push_str(r"\d"),
            3 if !c.is_ascii_alphanumeric() && c.is_ascii() => {
                pattern.push('\\');
                pattern.push(c);
            }
            4 => pattern.extend(['[', c, ']']),
            5 => pattern.extend([c, '?']),
            _ => pattern.push(c),
        }
    }
    if rng.random_bool(0.3) {
        pattern.push('$');
    }
    pattern
}
