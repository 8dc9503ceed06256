//! Comparisons, CONTAINS and IN: what an operator asks of an int, of a float, and of text by its look.

use super::expr::Expr;
use super::names::Names;
use super::number::{
    Digits, compare_digits, compare_float, compare_int, float_of, is_decimal, is_digits, is_number, symbol,
};
use super::param::ParamValue;
use super::text_of::canonical_int;
use super::version;
use crate::operators::compare::{Comparison, Operand, TextOperand};
use crate::operators::contains::{Contains, NotContains};
use crate::operators::in_list::InList;
use crate::subject::Subject;

/// An operator that asks something else of each type.
#[derive(Clone, Copy)]
pub(super) enum ByType<'a> {
    Compare(Comparison, &'a Operand),
    Contains(&'a Contains),
    NotContains(&'a NotContains),
    In(&'a InList),
}

/// On an `Int64`.
pub(super) fn int_test(operator: ByType<'_>, int: &str, names: &mut Names<'_>) -> Expr {
    match operator {
        ByType::Compare(comparison, operand) => {
            operand.as_int.as_ref().map_or(Expr::FALSE, |right| compare_int(comparison, int, right, names))
        }
        ByType::In(InList::Items { ints, .. }) if !ints.is_empty() => {
            let mut ints: Vec<i64> = ints.iter().copied().collect();
            ints.sort_unstable();
            Expr::sql(format!("{int} IN {}", names.bind(ParamValue::Ints(ints))))
        }
        ByType::In(_) | ByType::Contains(_) | ByType::NotContains(_) => Expr::FALSE,
    }
}

/// On a float.
pub(super) fn float_test(operator: ByType<'_>, float: &str, names: &mut Names<'_>) -> Expr {
    match operator {
        ByType::Compare(comparison, Operand { as_float: Some(right), .. }) => {
            compare_float(comparison, float, *right, names)
        }
        ByType::Compare(..) | ByType::Contains(_) | ByType::NotContains(_) | ByType::In(_) => Expr::FALSE,
    }
}

/// On text, whatever it looks like.
pub(super) fn text_test(operator: ByType<'_>, text: &str, names: &mut Names<'_>) -> Expr {
    if let ByType::In(list) = operator {
        return in_list(list, text, names);
    }
    let digits = match digits_test(operator, text, names) {
        Digits::DigitsOnly(test) => test,
        Digits::Any(test) => guarded(is_digits(text), test),
    };
    let decimal = guarded(is_decimal(text), float_test(operator, &float_of(text), names));
    let plain = match plain_test(operator, text, names) {
        Plain::PlainOnly(test) => test,
        Plain::Any(test) => guarded(format!("not({})", is_number(text)), test),
    };
    Expr::any([digits, decimal, plain])
}

/// The test where the guard holds, else false.
fn guarded(guard: String, test: Expr) -> Expr {
    if test == Expr::FALSE { Expr::FALSE } else { Expr::all([Expr::sql(guard), test]) }
}

fn digits_test(operator: ByType<'_>, text: &str, names: &mut Names<'_>) -> Digits {
    match operator {
        ByType::Compare(comparison, Operand { as_int: Some(right), .. }) => {
            compare_digits(comparison, text, right, names)
        }
        ByType::Compare(..) | ByType::Contains(_) | ByType::NotContains(_) | ByType::In(_) => {
            Digits::DigitsOnly(Expr::FALSE)
        }
    }
}

/// A test of text that looks like no number. Only the second is false on text that does.
enum Plain {
    Any(Expr),
    PlainOnly(Expr),
}

fn plain_test(operator: ByType<'_>, text: &str, names: &mut Names<'_>) -> Plain {
    match operator {
        ByType::Compare(comparison, operand) => match &operand.as_text {
            TextOperand::Plain(right) => compare_text(comparison, text, right, names),
            TextOperand::Version(Some(right)) => {
                Plain::PlainOnly(version::compare(comparison, text, &right.borrowed(), names))
            }
            TextOperand::Version(None) => Plain::PlainOnly(Expr::FALSE),
        },
        ByType::Contains(Contains::Plain(piece)) => {
            let found = position(text, piece, names);
            if piece.chars().all(is_of_numbers) { Plain::Any(found) } else { Plain::PlainOnly(found) }
        }
        ByType::Contains(Contains::Version(part)) => Plain::PlainOnly(version::contains(text, part, names)),
        ByType::NotContains(piece) => Plain::Any(position(text, piece.text(), names).negated()),
        ByType::In(_) => Plain::PlainOnly(Expr::FALSE),
    }
}

/// Whether a character may stand in text that looks like a number.
fn is_of_numbers(c: char) -> bool {
    matches!(c, '0'..='9' | '-' | '.')
}

fn position(text: &str, piece: &str, names: &mut Names<'_>) -> Expr {
    if piece.is_empty() {
        return Expr::TRUE;
    }
    Expr::sql(format!("position({text}, {}) > 0", names.bind_text(piece)))
}

fn compare_text(comparison: Comparison, text: &str, right: &str, names: &mut Names<'_>) -> Plain {
    let operand_is_plain = matches!(Subject::of_text(right), Ok(Subject::Text(_)));
    match (comparison, operand_is_plain) {
        (Comparison::Equal, false) => return Plain::PlainOnly(Expr::FALSE),
        (Comparison::NotEqual, false) => return Plain::Any(Expr::TRUE),
        _ => {}
    }
    let test = Expr::sql(format!("{text} {} {}", symbol(comparison), names.bind_text(right)));
    if comparison == Comparison::Equal { Plain::PlainOnly(test) } else { Plain::Any(test) }
}

/// Text that looks like an int is looked up as Python prints the int, text that looks like a float never found.
fn in_list(list: &InList, text: &str, names: &mut Names<'_>) -> Expr {
    let InList::Items { texts, .. } = list else { return Expr::FALSE };
    let mut holds_ints = false;
    let mut found: Vec<String> = Vec::new();
    for item in texts {
        match Subject::of_text(item) {
            Ok(Subject::Text(_)) => found.push(item.to_string()),
            Ok(int @ (Subject::Int(_) | Subject::BigInt(_)))
                if int.to_text().is_ok_and(|text| *text == **item) =>
            {
                holds_ints = true;
                found.push(item.to_string());
            }
            Ok(_) | Err(_) => {}
        }
    }
    if found.is_empty() {
        return Expr::FALSE;
    }
    found.sort_unstable();
    let list = names.bind(ParamValue::Texts(found));
    let text = if holds_ints { canonical_int(text) } else { text.to_owned() };
    Expr::sql(format!("{text} IN {list}"))
}
