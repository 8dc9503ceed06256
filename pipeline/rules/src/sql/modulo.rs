//! MODULO in SQL: Python's floored `%` of floats, to the last bit.
//!
//! ClickHouse's own `%` of floats rounds on its way, and so do its casts of floats to ints beyond 64 bits. So the
//! remainder is taken of whole numbers, large ones by their bits. With the divisor `d = m · 2^e`, m odd and below 2^53,
//!
//! ```text
//! fmod(y, d) = y                              for y < d
//!            = fmod(y / 2^e, m) · 2^e         exact: only the exponent changes
//! fmod(Y, m) = (⌊Y⌋ mod m) + (Y - ⌊Y⌋)        for Y below 2^53
//!            = (n mod m) · (2^q mod m) mod m  above, where Y = n · 2^q is a whole number, n of 53 bits
//! ```
//!
//! 2^q mod m is a product of the powers 2^1, 2^2, 2^4, … mod m, one for each bit of q. Every step but the last addition of
//! Python's own (`remainder + divisor` where the signs differ) is exact.

use super::expr::Expr;
use super::names::Names;
use super::param::ParamValue;

/// Divisors are scaled up by at most so many bits: a power of two that is a float.
const SCALE_BITS_MAX: i32 = 1_000;
/// Bits of q, which is below 971 + 1,000.
const EXPONENT_BITS: u32 = 11;

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
    let modulus = names.bind(ParamValue::Int(m as i64));
    let scale = names.bind(ParamValue::Float(exp2(e.abs())));
    let (scaled, back) = if e < 0 { ("multiply", "/") } else { ("divide", "*") };
    // Infinite at worst, which is above 2^53, too.
    let value = names.part(format!("{scaled}({magnitude}, {scale})"));
    let small = format!("toFloat64(toUInt64(floor({value})) % {modulus}) + ({value} - floor({value}))");
    let large = format!("toFloat64({})", large_remainder(&magnitude, m, e, &modulus, names));
    Some(names.part(format!(
        "if({magnitude} < {size}, {magnitude}, if({value} < 9007199254740992, {small}, {large}) {back} {scale})"
    )))
}

/// `y / 2^e mod m`, where that quotient is at least 2^53.
fn large_remainder(y: &str, m: u64, e: i32, modulus: &str, names: &mut Names<'_>) -> String {
    let bits = names.part(format!("reinterpretAsUInt64({y})"));
    let exponent = names.part(format!("minus(bitShiftRight({bits}, 52), {})", 1075 + e));
    let modulus = format!("toUInt128({modulus})");
    let number = format!("toUInt128(bitOr(bitAnd({bits}, 4503599627370495), 4503599627370496))");
    (0..EXPONENT_BITS).fold(format!("({number} % {modulus})"), |product, bit| {
        let power = names.bind(ParamValue::Int(power_of_two_modulo(1 << bit, m) as i64));
        format!("({product} * toUInt128(if(bitTest({exponent}, {bit}), {power}, 1)) % {modulus})")
    })
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

fn power_of_two_modulo(exponent: u32, m: u64) -> u64 {
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
