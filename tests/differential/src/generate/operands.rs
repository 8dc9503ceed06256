//! Operands, mostly near the value that they will be compared with.

use rand::RngExt;
use rand::rngs::StdRng;
use rollcall_model::Value;

use super::values::{TEXTS, changed, text};
use super::{expressions, pick};

/// An operand for an operator, with a value in mind.
pub(super) fn operand(rng: &mut StdRng, operator: &str, near: &Value) -> String {
    if rng.random_bool(0.1) {
        return text(rng);
    }
    match operator {
        "REGEX" => expressions::expression(rng, &written(near)),
        "IN" => list(rng, near),
        "MODULO" => modulo(rng),
        "PERCENTAGE_SPLIT" => percentage(rng),
        "CONTAINS" | "NOT_CONTAINS" => piece(rng, near),
        _ => alike(rng, near),
    }
}

/// A value as text, some way or other.
fn written(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
        Value::Int(n) => n.to_string(),
        Value::BigInt(n) => n.to_string(),
        Value::Float(x) => format!("{x:?}"),
        Value::Str(text) => text.clone(),
    }
}

fn alike(rng: &mut StdRng, near: &Value) -> String {
    let written = written(near);
    match rng.random_range(0..12) {
        0..4 => written,
        4 => format!("{written}:semver"),
        5 => format!(" {written} "),
        6 => changed(rng, &written),
        7 => format!("{}{written}", pick(rng, &["+", "-", "0", "_", "\u{3000}"])),
        8 => format!("{written}{}", pick(rng, &[".0", "e0", "_0", "\n", "0"])),
        9 => format!(
            "{}:semver",
            pick(rng, &["1.2.3", "1.2.3-rc.2", "1.2.3-alpha", "1.0.0+x", "2.0.0", "1.2", ""])
        ),
        _ => text(rng),
    }
}

fn piece(rng: &mut StdRng, near: &Value) -> String {
    let chars: Vec<char> = written(near).chars().collect();
    let from = rng.random_range(0..=chars.len());
    let to = rng.random_range(from..=chars.len());
    let piece: String = chars[from..to].iter().collect();
    match rng.random_range(0..6) {
        0..3 => piece,
        3 => changed(rng, &piece),
        4 => format!("{}:semver", pick(rng, &["rc.1", "build", "alpha", "c.d", "a.b", "1", "", "None"])),
        _ => text(rng),
    }
}

fn list(rng: &mut StdRng, near: &Value) -> String {
    let items: Vec<String> = (0..rng.random_range(0..4))
        .map(|_| if rng.random_bool(0.4) { written(near) } else { text(rng) })
        .collect();
    if rng.random_bool(0.5) {
        return items.join(pick(rng, &[",", ",", ", ", " ,"]));
    }
    let items: Vec<String> = items.iter().map(|item| element(rng, item)).collect();
    let list = format!("[{}]", items.join(pick(rng, &[",", ", ", " , ", "\n,"])));
    match rng.random_range(0..12) {
        0 => changed(rng, &list),
        1 => format!("{}{list}", pick(rng, &[" ", "\u{feff}", "["])),
        2 => format!("{list}{}", pick(rng, &[" ", "\n", "x", "]", ","])),
        _ => list,
    }
}

/// An element of a JSON list; not always JSON.
fn element(rng: &mut StdRng, item: &str) -> String {
    let quoted = serde_json::to_string(item).expect("text is JSON");
    match rng.random_range(0..20) {
        0..9 => quoted,
        9..13 => item.to_owned(),
        13 => format!("[{quoted}, 1.0, null]"),
        14 => format!("{{\"k\": {quoted}, \"k\": true, {quoted}: NaN}}"),
        _ => pick(
            rng,
            &[
                "1",
                "-0",
                "1.0",
                "1e5",
                "1E400",
                "1e-7",
                "true",
                "false",
                "null",
                "NaN",
                "Infinity",
                "-Infinity",
                "01",
                "+1",
                ".5",
                "1.",
                "'a'",
                "\"\\u0041\"",
                "\"\\ud83d\\ude00\"",
                "\"\\ud800\"",
                "[\"\\ud800\"]",
                "\"\\x\"",
                "\"\\/\"",
                "\"\n\"",
                "{}",
                "[]",
                "[[[]]]",
                "12345678901234567890123",
                "1e22",
                "\"\u{7f}\"",
                "[\"\\u007f\\u00a0\\u0300'\"]",
                "[\"'\\\"\"]",
                "-",
                "nul",
                "{\"a\":1,}",
            ],
        )
        .to_owned(),
    }
}

fn modulo(rng: &mut StdRng) -> String {
    const NUMBERS: &[&str] = &[
        "2",
        "3",
        "10",
        "1",
        "0",
        "-0",
        "0.0",
        "-2",
        "1.5",
        "0.1",
        "2.0",
        "1e3",
        " 2 ",
        "1_0",
        "inf",
        "-inf",
        "nan",
        "٣",
        "",
        "x",
        "1e400",
        "5e-324",
        "0.25",
        "-1.5",
        "9007199254740993",
    ];
    match rng.random_range(0..10) {
        0 => pick(rng, &["2", "|", "2|", "|1", "2|1|0", "2||1", "2 1"]).to_owned(),
        _ => format!("{}|{}", pick(rng, NUMBERS), pick(rng, NUMBERS)),
    }
}

fn percentage(rng: &mut StdRng) -> String {
    match rng.random_range(0..6) {
        0..3 => format!("{}", f64::from(rng.random_range(0..10_000)) / 100.0),
        3 => rng.random_range(0..=100).to_string(),
        4 => pick(rng, &["0", "100", "99.99", "50%", "", "nan", "inf", "-1", " 50 ", "5_0", "1e1", "٥٠"])
            .to_owned(),
        _ => pick(rng, TEXTS).to_owned(),
    }
}
