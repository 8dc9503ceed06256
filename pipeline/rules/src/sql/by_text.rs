//! REGEX, PERCENTAGE_SPLIT and MODULO: one test for values of every type, of their text or of the float they are.

use super::expr::{Bounds, Expr};
use super::modulo;
use super::names::Names;
use super::param::ParamValue;
use crate::operators::modulo::Modulo;
use crate::operators::percentage_split::PercentageSplit;
use crate::operators::regex::Regex;
use crate::python::re::translate;

/// Whether text matches; NULL counts as no match. `is_set` holds wherever there is a value.
pub(super) fn matches(regex: &Regex, text: &str, names: &mut Names<'_>, is_set: &Expr) -> Bounds {
    let re2 = match translate(regex.pattern()) {
        Ok(re2) => re2,
        Err(reason) => return Bounds::between(Expr::FALSE, is_set.clone(), reason),
    };
    let is_match = Expr::all(re2.parts.into_iter().map(|(pattern, wanted)| {
        let test = Expr::sql(format!("match({text}, {})", names.bind_text(pattern)));
        if wanted { test } else { test.negated() }
    }));
    if !re2.ascii_only {
        return Bounds::Exact(is_match.or_false());
    }
    let is_ascii = Expr::sql(format!("match({text}, '^[\\x00-\\x7f]*$')"));
    let lower = Expr::all([is_ascii.clone(), is_match]).or_false();
    let upper = Expr::any([lower.clone(), Expr::all([is_set.clone(), is_ascii.or_false().negated()])]);
    Bounds::between(lower, upper, "RE2's word boundaries are those of ASCII")
}

/// Whether the hash of text lies within the share. The text isn't NULL.
///
/// The greatest hash is drawn again with the pair of key and text written once more, as often as it takes; five times
/// in a row is one in 10^20.
pub(super) fn splits(split: &PercentageSplit, text: &str, names: &mut Names<'_>) -> Expr {
    let Some(max) = split.number_max() else { return Expr::FALSE };
    if max == PercentageSplit::NUMBER_MAX {
        return Expr::TRUE;
    }
    let key = names.bind_text(split.segment_key());
    let max = names.bind(ParamValue::Int(i64::from(max)));
    let pair = names.part(format!("concat({key}, ',', {text})"));
    let hash = |text: &str| format!("modulo(reinterpretAsUInt128(reverse(MD5({text}))), 9999)");
    let first = names.part(hash(&pair));
    let again = format!(
        "arrayFirst(h -> h != 9998, arrayMap(n -> {}, [2, 3, 4, 5, 6]))",
        hash(&format!("arrayStringConcat(arrayWithConstant(n, {pair}), ',')"))
    );
    Expr::sql(format!("if({first} = 9998, {again}, {first}) <= {max}"))
}

/// Whether the float leaves the remainder.
///
/// # Errors
/// Why SQL can't say.
pub(super) fn leaves(modulo: &Modulo, float: &str, names: &mut Names<'_>) -> Result<Expr, &'static str> {
    match modulo {
        Modulo::Of { divisor, remainder } => modulo::leaves(float, *divisor, *remainder, names)
            .ok_or("the divisor is too small to be scaled to whole numbers"),
        Modulo::ByZero | Modulo::Invalid => Ok(Expr::FALSE),
    }
}
