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
use super::number::{float_of, is_number};
use super::param::Params;
use super::place::{Place, places};
use super::text_of::{element, of_text, of_trait};
use crate::compile::CompiledCondition;
use crate::operators::Operator;
use crate::subject::Subject;

/// A condition's verdict.
pub(super) fn condition(condition: &CompiledCondition, scope: &Scope<'_>, params: &mut Params<'_>) -> Bounds {
    let operator = &condition.operator;
    let places = places(&condition.property, scope, params);
    let verdict = at_place(operator, &places.place, params);
    match &places.literal {
        None => verdict,
        Some(Place::Trait(path)) => {
            let literal = of_trait_value(operator, path, params);
            Bounds::choose(&format!("isNotNull({path})"), literal, verdict)
        }
        Some(Place::Unreachable(reason)) => Bounds::unknown(reason.clone()),
        Some(Place::Nothing | Place::Text(_) | Place::RawText(_) | Place::Value(_)) => verdict,
    }
}

fn at_place(operator: &Operator, place: &Place<'_>, params: &mut Params<'_>) -> Bounds {
    match place {
        Place::Nothing => Bounds::Exact(always(operator, &Subject::Missing)),
        Place::Value(text) => match Subject::of_text(text) {
            Ok(subject) => Bounds::Exact(always(operator, &subject)),
            Err(_) => Bounds::Exact(Expr::FALSE),
        },
        Place::Trait(path) => of_trait_value(operator, path, params),
        Place::Text(column) => of_text_column(operator, column, &of_text(column), params),
        // Raw text is what a split hashes, and nothing else looks at it.
        Place::RawText(column) => of_text_column(operator, column, column, params),
        Place::Unreachable(reason) => Bounds::unknown(reason.clone()),
    }
}

/// What the evaluator says of a value that is the same for every row. Where it raises, SQL says nothing of the row.
fn always(operator: &Operator, subject: &Subject<'_>) -> Expr {
    Expr::Const(operator.holds(subject).unwrap_or(false))
}

/// On a trait, of whatever type.
fn of_trait_value(operator: &Operator, path: &str, params: &mut Params<'_>) -> Bounds {
    let is_set = || Expr::sql(format!("isNotNull({path})"));
    let constants = || Expr::any([of_bools(operator, path), of_non_finite(operator, path)]);
    let by_type = |operator: ByType<'_>, params: &mut Params<'_>| {
        let (int, float, text) = (element(path, "Int64"), element(path, "Float64"), element(path, "String"));
        Bounds::Exact(Expr::any([
            constants(),
            int_test(operator, &int, params).or_not_null(&int),
            float_test(operator, &float, params).or_not_null(&float),
            text_test(operator, &text, params).or_not_null(&text),
        ]))
    };
    match operator {
        Operator::IsSet => Bounds::Exact(is_set()),
        Operator::IsNotSet => Bounds::Exact(is_set().negated()),
        Operator::Unknown => Bounds::Exact(Expr::FALSE),
        Operator::Regex(regex) => {
            let matched = matches(regex, &of_trait(path), params, &is_set());
            Bounds::any(vec![Bounds::Exact(constants()), matched])
        }
        Operator::PercentageSplit(split) => {
            let is_text = Expr::sql(format!("dynamicType({path}) IN ('String', 'Int64', 'Float64')"));
            let text = format!("ifNull({}, '')", of_trait(path));
            Bounds::Exact(Expr::any([constants(), Expr::all([is_text, splits(split, &text, params)])]))
        }
        Operator::Modulo(modulo) => {
            let int = element(path, "Int64");
            let float = element(path, "Float64");
            let text = element(path, "String");
            let number = format!(
                "multiIf(isNotNull({int}), toFloat64({int}), isNotNull({float}), {float}, ifNull({}, 0), {}, NULL)",
                is_number(&text),
                float_of(&text)
            );
            match leaves(modulo, &number, params) {
                Ok(left) => Bounds::Exact(Expr::any([constants(), left.or_false()])),
                Err(reason) => Bounds::between(constants(), is_set(), reason),
            }
        }
        Operator::Compare(comparison, operand) => by_type(ByType::Compare(*comparison, operand), params),
        Operator::Contains(contains) => by_type(ByType::Contains(contains), params),
        Operator::NotContains(lacks) => by_type(ByType::NotContains(lacks), params),
        Operator::In(list) => by_type(ByType::In(list), params),
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
fn of_text_column(operator: &Operator, column: &str, text: &str, params: &mut Params<'_>) -> Bounds {
    match operator {
        Operator::IsSet => Bounds::Exact(Expr::TRUE),
        Operator::IsNotSet | Operator::Unknown => Bounds::Exact(Expr::FALSE),
        Operator::Regex(regex) => matches(regex, text, params, &Expr::TRUE),
        Operator::PercentageSplit(split) => Bounds::Exact(splits(split, text, params)),
        Operator::Modulo(modulo) => match leaves(modulo, &float_of(column), params) {
            Ok(left) => Bounds::Exact(Expr::all([Expr::sql(is_number(column)), left])),
            Err(reason) => Bounds::between(Expr::FALSE, Expr::sql(is_number(column)), reason),
        },
        Operator::Compare(comparison, operand) => {
            Bounds::Exact(text_test(ByType::Compare(*comparison, operand), column, params))
        }
        Operator::Contains(contains) => Bounds::Exact(text_test(ByType::Contains(contains), column, params)),
        Operator::NotContains(lacks) => Bounds::Exact(text_test(ByType::NotContains(lacks), column, params)),
        Operator::In(list) => Bounds::Exact(text_test(ByType::In(list), column, params)),
    }
}

/// On true and false.
fn of_bools(operator: &Operator, path: &str) -> Expr {
    let value = element(path, "Bool");
    let holds = |b| operator.holds(&Subject::Bool(b)).unwrap_or(false);
    match (holds(true), holds(false)) {
        (true, true) => Expr::sql(format!("isNotNull({value})")),
        (true, false) => Expr::sql(format!("ifNull({value} = true, 0)")),
        (false, true) => Expr::sql(format!("ifNull({value} = false, 0)")),
        (false, false) => Expr::FALSE,
    }
}

/// On NaN and the infinities, which stand in the JSON column as arrays of one text.
fn of_non_finite(operator: &Operator, path: &str) -> Expr {
    let value = element(path, "Array(Nullable(String))");
    Expr::any(
        NonFinite::ALL
            .iter()
            .filter(|float| operator.holds(&Subject::Float(float.value())).unwrap_or(false))
            .map(|float| Expr::sql(format!("{value} = ['{}']", float.text()))),
    )
}
