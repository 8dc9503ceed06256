//! MODULO in SQL: Python's floored `%` of floats, to the last bit.
//!
//! ClickHouse's own `%` of floats rounds on its way, so the remainder is taken of whole numbers. With the divisor
//! `d = m · 2^e`, m odd and below 2^53,
//!
//! ```text
//! fmod(y, d) = y                              for y < d
//!            = fmod(y / 2^e, m) · 2^e         exact: only the exponent changes
//! fmod(Y, m) = (⌊Y⌋ mod m) + (Y - ⌊Y⌋)        for Y below 2^53, by integers
//!            = (Y / 2^200j mod m) · (2^200j mod m) mod m     above, where Y is a whole number of 53 bits and zeros
//! ```
//!
//! Every step but the last addition of Python's own (`remainder + divisor` where the signs differ) is exact.

use super::expr::Expr;
use super::names::Names;
use super::param::ParamValue;

/// A whole number's steps of this many bits fit into 256 bits with room for 53 more.
const STEP_BITS: i32 = 200;
/// Divisors are scaled up by at most so many bits.
const SCALE_BITS_MAX: i32 = 200;
/// Floats are below 2^1024.
const STEPS: i32 = 5;

/// Whether the float `x`, a part with a name, leaves the remainder; `None` where the divisor is too small for it.
pub(super) fn leaves(x: &str, divisor: f64, remainder: f64, names: &mut Names<'_>) -> Option<Expr> {
    if divisor.is_nan() || remainder.is_nan() {
        return Some(Expr::FALSE);
    }
    let wanted = names.bind(ParamValue::Float(remainder));
    let is_finite = Expr::sql(format!("isFinite({x})"));
    if divisor.is_infinite() {
        return Some(Expr::all([is_finite, by_infinity(x, divisor, remainder == divisor, &wanted)]));
    }
    let r = truncated_remainder(x, divisor.abs(), names)?;
    let size = names.bind(ParamValue::Float(divisor.abs()));
    // The remainder's sign is the divisor's.
    let floored = if divisor > 0.0 {
        format!("if({x} < 0 and {r} != 0, {size} - {r}, {r})")
    } else {
        format!("if({x} > 0 and {r} != 0, {r} - {size}, -{r})")
    };
    Some(Expr::all([is_finite, Expr::sql(format!("{floored} = {wanted}"))]))
}

/// What has the divisor's sign stays as it is; the rest becomes the divisor.
fn by_infinity(x: &str, divisor: f64, wants_divisor: bool, wanted: &str) -> Expr {
    let (same_sign, other_sign) = if divisor > 0.0 { (">= 0", "< 0") } else { ("<= 0", "> 0") };
    Expr::any([
        Expr::all([Expr::sql(format!("{x} {same_sign}")), Expr::sql(format!("{x} = {wanted}"))]),
        Expr::all([Expr::Const(wants_divisor), Expr::sql(format!("{x} {other_sign}"))]),
    ])
}

/// `fmod(abs(x), d)` of a positive finite divisor.
fn truncated_remainder(x: &str, divisor: f64, names: &mut Names<'_>) -> Option<String> {
    let (m, e) = odd_and_exponent(divisor);
    if e < -SCALE_BITS_MAX {
        return None;
    }
    let magnitude = names.part(format!("abs({x})"));
    let size = names.bind(ParamValue::Float(divisor));
    let modulus = format!("toUInt256({})", names.bind(ParamValue::Int(m as i64)));
    let scale = names.bind(ParamValue::Float(exp2(e.abs())));
    // Below 2^53 a float may have a fraction, which stays as it is; it is scaled up only there, where it can't overflow.
    let (value, small, extra_bits) = if e < 0 {
        (magnitude.clone(), names.part(format!("multiply({magnitude}, {scale})")), -e)
    } else {
        let value = names.part(format!("divide({magnitude}, {scale})"));
        (value.clone(), value, 0)
    };
    let below = format!("toFloat64(toUInt256(floor({small})) % {modulus}) + ({small} - floor({small}))");
    let mut arms = vec![format!("{value} < 9007199254740992, {below}")];
    for step in 0..STEPS {
        let power = names.bind(ParamValue::Int(power_of_two_modulo(STEP_BITS * step + extra_bits, m) as i64));
        let shifted = if step == 0 { value.clone() } else { format!("{value} / exp2({})", STEP_BITS * step) };
        let part = format!("toFloat64((toUInt256({shifted}) % {modulus}) * toUInt256({power}) % {modulus})");
        arms.push(if step + 1 < STEPS {
            format!("{value} < exp2({}), {part}", 255 + STEP_BITS * step)
        } else {
            part
        });
    }
    let scaled_back = if e < 0 { "/" } else { "*" };
    Some(names.part(format!(
        "if({magnitude} < {size}, {magnitude}, multiIf({}) {scaled_back} {scale})",
        arms.join(", ")
    )))
}

/// A positive float as an odd whole number times a power of two.
fn odd_and_exponent(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let biased = ((bits >> 52) & 0x7ff) as i32;
    let (mantissa, exponent) =
        if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
    let zeros = mantissa.trailing_zeros();
    (mantissa >> zeros, exponent + zeros as i32)
}

fn exp2(exponent: i32) -> f64 {
    2.0_f64.powi(exponent)
}

fn power_of_two_modulo(exponent: i32, m: u64) -> u64 {
    (0..exponent).fold(1 % m, |power, _| power * 2 % m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_taken_apart() {
        for x in [1.0, 2.0, 0.1, 6.0, 1e300, 5e-324, 0.75, 9_007_199_254_740_993.0] {
            let (m, e) = odd_and_exponent(x);
            assert!(m % 2 == 1 && m < 1 << 53);
            let again = if e < -1022 { (m as f64 * exp2(e + 200)) * exp2(-200) } else { m as f64 * exp2(e) };
            assert_eq!(again, x);
        }
        assert_eq!(power_of_two_modulo(10, 7), 1024 % 7);
        assert_eq!(power_of_two_modulo(5, 1), 0);
    }
}
