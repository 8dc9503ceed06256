//! Numbers beside an operand: ints of any size, floats, and text that looks like either.
//!
//! Python compares ints of any size exactly. ClickHouse's are of 64 bits in the JSON column; larger ones, and all that
//! come as text, are compared by their digits: the longer is the greater.

use super::expr::Expr;
use super::names::Names;
use super::param::ParamValue;
use crate::operators::compare::Comparison;
use crate::python::Int;

/// Text that is an int to the rules.
pub(super) fn is_digits(text: &str) -> String {
    format!("match({text}, '^-?[0-9]+$')")
}

/// Text that is a float to the rules.
pub(super) fn is_decimal(text: &str) -> String {
    format!("match({text}, '^-?[0-9]+[.][0-9]+$')")
}

/// Text that is a number to the rules.
pub(super) fn is_number(text: &str) -> String {
    format!("match({text}, '^-?[0-9]+([.][0-9]+)?$')")
}

/// The float that text is; exact while `precise_float_parsing` is on, which is ClickHouse's default.
pub(super) fn float_of(text: &str) -> String {
    format!("toFloat64OrZero({text})")
}

/// An `Int64` beside an int.
pub(super) fn compare_int(comparison: Comparison, value: &str, right: &Int, names: &mut Names<'_>) -> Expr {
    match right {
        Int::Small(right) => {
            let right = names.bind(ParamValue::Int(*right));
            Expr::sql(format!("{value} {} {right}", symbol(comparison)))
        }
        // Beyond 64 bits, every value is on one side of it.
        Int::Big(_) => Expr::Const(comparison.accepts(right.compare_small(0))),
    }
}

/// Text that looks like an int beside an int. Only the second holds for nothing but such text.
pub(super) enum Digits {
    Any(Expr),
    DigitsOnly(Expr),
}

/// Text beside an int, for text that looks like an int.
pub(super) fn compare_digits(
    comparison: Comparison,
    text: &str,
    right: &Int,
    names: &mut Names<'_>,
) -> Digits {
    let digits = right.text();
    let (negative, magnitude) = match digits.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, if digits == "0" { "" } else { &*digits }),
    };
    let mut by_size = Comparing { text, negative, magnitude, names };
    match comparison {
        Comparison::Equal => Digits::DigitsOnly(by_size.equal()),
        Comparison::NotEqual => Digits::Any(by_size.equal().negated()),
        Comparison::Greater => Digits::Any(by_size.greater()),
        Comparison::GreaterOrEqual => Digits::Any(by_size.less().negated()),
        Comparison::Less => Digits::Any(by_size.less()),
        Comparison::LessOrEqual => Digits::Any(by_size.greater().negated()),
    }
}

struct Comparing<'t, 'p, 'n> {
    text: &'t str,
    negative: bool,
    /// The operand's digits without a sign; none for zero.
    magnitude: &'t str,
    names: &'p mut Names<'n>,
}

impl Comparing<'_, '_, '_> {
    /// The same number, with any zeros before it.
    fn equal(&mut self) -> Expr {
        let pattern = match (self.negative, self.magnitude) {
            (false, "") => "^-?0+$".to_owned(),
            (false, magnitude) => format!("^0*{magnitude}$"),
            (true, magnitude) => format!("^-0*{magnitude}$"),
        };
        let pattern = self.names.bind_text(pattern);
        Expr::sql(format!("match({}, {pattern})", self.text))
    }

    fn greater(&mut self) -> Expr {
        if self.negative {
            Expr::any([self.below_zero().negated(), self.sized('<')])
        } else {
            Expr::all([self.below_zero().negated(), self.sized('>')])
        }
    }

    fn less(&mut self) -> Expr {
        if self.negative {
            Expr::all([self.below_zero(), self.sized('>')])
        } else {
            // Without a sign it is less by its digits; with one, by its sign, unless it is a zero beside zero.
            let signed =
                Expr::all([self.below_zero(), self.is_not_zero(), Expr::Const(self.magnitude.is_empty())]);
            let beside_more = Expr::Const(!self.magnitude.is_empty());
            Expr::any([signed, Expr::all([beside_more, Expr::any([self.below_zero(), self.sized('<')])])])
        }
    }

    fn below_zero(&self) -> Expr {
        Expr::sql(format!("startsWith({}, '-')", self.text))
    }

    fn is_not_zero(&self) -> Expr {
        Expr::sql(format!("match({}, '[1-9]')", self.text))
    }

    /// How the digits without sign and zeros compare with the operand's.
    fn sized(&mut self, sign: char) -> Expr {
        let length = self.names.bind(ParamValue::Int(self.magnitude.len() as i64));
        let magnitude = self.names.bind_text(self.magnitude);
        let digits = self.names.part(format!("replaceRegexpOne({}, '^-?0*', '')", self.text));
        Expr::sql(format!("(length({digits}), {digits}) {sign} ({length}, {magnitude})"))
    }
}

/// A float beside a float.
pub(super) fn compare_float(comparison: Comparison, value: &str, right: f64, names: &mut Names<'_>) -> Expr {
    if right.is_nan() {
        return Expr::Const(comparison == Comparison::NotEqual);
    }
    let right = names.bind(ParamValue::Float(right));
    Expr::sql(format!("{value} {} {right}", symbol(comparison)))
}

/// SQL's sign.
pub(super) fn symbol(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
    }
}
