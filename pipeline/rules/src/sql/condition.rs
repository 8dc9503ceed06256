//! One condition as SQL.
//!
//! The operand is known and a value is of one of few types, so most is decided here, by the evaluator itself: what the
//! condition says of true, of false and of the floats that aren't finite is a constant. What is left is one small test
//! for ints, one for floats, one for text:
//!
//! ```text
//! trait of type   Bool ─▶ constants            Int64 ─▶ test of an int         Float64 ─▶ test of a float
//!                 String ─▶ looks like an int ─▶ test of its digits
//!                           looks like a float ─▶ test of a float
//!                           else ─▶ test of text
//!                 Array ─▶ ['NaN'], ['Infinity'], ['-Infinity']: constants
//!                 none ─▶ a constant
//! ```
//!
//! Where a test says nothing else than false it is left out; so `plan EQUAL growth` is one comparison of text.

use rollcall_model::NonFinite;

use super::Scope;
use super::by_text::{leaves, matches, splits};
use super::by_type::{ByType, float_test, int_test, text_test};
use super::expr::{Bounds, Expr};
use super::names::Names;
use super::number::{float_of, is_number};
use super::place::{Place, places};
use super::text_of::{element, of_text, of_trait};
use crate::compile::CompiledCondition;
use crate::operators::Operator;
use crate::steps::Steps;
use crate::subject::Subject;

/// A condition's verdict.
pub(super) fn condition(condition: &CompiledCondition, scope: &Scope<'_>, names: &mut Names<'_>) -> Bounds {
    let operator = &condition.operator;
    let places = places(&condition.property, scope, names);
    let verdict = at_place(operator, &places.place, names);
    match &places.literal {
        None => verdict,
        Some(Place::Trait(path)) => {
            let literal = of_trait_value(operator, path, names);
            Bounds::choose(&format!("isNotNull({path})"), literal, verdict)
        }
        Some(Place::Unreachable(reason)) => Bounds::unknown(reason.clone()),
        Some(Place::Nothing | Place::Text(_) | Place::RawText(_) | Place::Value(_)) => verdict,
    }
}

fn at_place(operator: &Operator, place: &Place<'_>, names: &mut Names<'_>) -> Bounds {
    match place {
        Place::Nothing => Bounds::Exact(always(operator, &Subject::Missing)),
        Place::Value(text) => match Subject::of_text(text) {
            Ok(subject) => Bounds::Exact(always(operator, &subject)),
            Err(_) => Bounds::Exact(Expr::FALSE),
        },
        Place::Trait(path) => of_trait_value(operator, path, names),
        Place::Text(column) => {
            let text = of_text(column, names);
            of_text_column(operator, column, &text, names)
        }
        // Raw text is what a split hashes, and nothing else looks at it.
        Place::RawText(column) => of_text_column(operator, column, column, names),
        Place::Unreachable(reason) => Bounds::unknown(reason.clone()),
    }
}

/// What the evaluator says of a value that is the same for every row. Where it raises, SQL says nothing of the row.
fn always(operator: &Operator, subject: &Subject<'_>) -> Expr {
    Expr::Const(operator.holds(subject, &Steps::new()).unwrap_or(false))
}

/// On a trait, of whatever type.
fn of_trait_value(operator: &Operator, path: &str, names: &mut Names<'_>) -> Bounds {
    let is_set = || Expr::sql(format!("isNotNull({path})"));
    let constants = Expr::any([of_bools(operator, path, names), of_non_finite(operator, path, names)]);
    let by_type = |operator: ByType<'_>, names: &mut Names<'_>| {
        let [int, float, text] = ["Int64", "Float64", "String"].map(|name| element(path, name, names));
        Bounds::Exact(Expr::any([
            constants.clone(),
            int_test(operator, &int, names).or_not_null(&int),
            float_test(operator, &float, names).or_not_null(&float),
            text_test(operator, &text, names).or_not_null(&text),
        ]))
    };
    match operator {
        Operator::IsSet => Bounds::Exact(is_set()),
        Operator::IsNotSet => Bounds::Exact(is_set().negated()),
        Operator::Unknown | Operator::Valueless => Bounds::Exact(Expr::FALSE),
        Operator::Regex(regex) => {
            let matched = matches(regex, &of_trait(path, names), names, &is_set());
            Bounds::any(vec![Bounds::Exact(constants.clone()), matched])
        }
        Operator::PercentageSplit(split) => {
            let is_text = Expr::sql(format!("dynamicType({path}) IN ('String', 'Int64', 'Float64')"));
            let text = of_trait(path, names);
            let text = names.part(format!("ifNull({text}, '')"));
            Bounds::Exact(Expr::any([constants.clone(), Expr::all([is_text, splits(split, &text, names)])]))
        }
        Operator::Modulo(modulo) => {
            let [int, float, text] = ["Int64", "Float64", "String"].map(|name| element(path, name, names));
            let number = names.part(format!(
                "multiIf(isNotNull({int}), toFloat64({int}), isNotNull({float}), {float}, ifNull({}, 0), {}, NULL)",
                is_number(&text),
                float_of(&text)
            ));
            match leaves(modulo, &number, names) {
                Ok(left) => Bounds::Exact(Expr::any([constants.clone(), left.or_false()])),
                Err(reason) => Bounds::between(constants.clone(), is_set(), reason),
            }
        }
        Operator::Compare(comparison, operand) => by_type(ByType::Compare(*comparison, operand), names),
        Operator::Contains(contains) => by_type(ByType::Contains(contains), names),
        Operator::NotContains(lacks) => by_type(ByType::NotContains(lacks), names),
        Operator::In(list) => by_type(ByType::In(list), names),
    }
}

impl Expr {
    /// A test of a value that may be NULL, where the test is false.
    fn or_not_null(self, value: &str) -> Self {
        match self {
            Self::Const(true) => Self::sql(format!("isNotNull({value})")),
            test @ (Self::Const(false) | Self::Sql(_)) => test.or_false(),
        }
    }
}

/// On a column of text. `text` is `str()` of its value.
fn of_text_column(operator: &Operator, column: &str, text: &str, names: &mut Names<'_>) -> Bounds {
    match operator {
        Operator::IsSet => Bounds::Exact(Expr::TRUE),
        Operator::IsNotSet | Operator::Unknown | Operator::Valueless => Bounds::Exact(Expr::FALSE),
        Operator::Regex(regex) => matches(regex, text, names, &Expr::TRUE),
        Operator::PercentageSplit(split) => Bounds::Exact(splits(split, text, names)),
        Operator::Modulo(modulo) => {
            let float = names.part(float_of(column));
            match leaves(modulo, &float, names) {
                Ok(left) => Bounds::Exact(Expr::all([Expr::sql(is_number(column)), left])),
                Err(reason) => Bounds::between(Expr::FALSE, Expr::sql(is_number(column)), reason),
            }
        }
        Operator::Compare(comparison, operand) => {
            Bounds::Exact(text_test(ByType::Compare(*comparison, operand), column, names))
        }
        Operator::Contains(contains) => Bounds::Exact(text_test(ByType::Contains(contains), column, names)),
        Operator::NotContains(lacks) => Bounds::Exact(text_test(ByType::NotContains(lacks), column, names)),
        Operator::In(list) => Bounds::Exact(text_test(ByType::In(list), column, names)),
    }
}

/// On true and false.
fn of_bools(operator: &Operator, path: &str, names: &mut Names<'_>) -> Expr {
    let value = element(path, "Bool", names);
    let holds = |b| operator.holds(&Subject::Bool(b), &Steps::new()).unwrap_or(false);
    match (holds(true), holds(false)) {
        (true, true) => Expr::sql(format!("isNotNull({value})")),
        (true, false) => Expr::sql(format!("ifNull({value} = true, 0)")),
        (false, true) => Expr::sql(format!("ifNull({value} = false, 0)")),
        (false, false) => Expr::FALSE,
    }
}

/// On NaN and the infinities, which stand in the JSON column as arrays of one text.
fn of_non_finite(operator: &Operator, path: &str, names: &mut Names<'_>) -> Expr {
    let value = element(path, "Array(Nullable(String))", names);
    Expr::any(
        NonFinite::ALL
            .iter()
            .filter(|float| operator.holds(&Subject::Float(float.value()), &Steps::new()).unwrap_or(false))
            .map(|float| Expr::sql(format!("{value} = ['{}']", float.text()))),
    )
}
