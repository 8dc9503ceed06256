//! Python's `float(text)`, `repr(float)` and floored `%`.

use std::fmt;

use super::unicode::{ascii_number_text, strip_ascii_space};

/// `float(text)`, `None` for ValueError: as `int`, with a point, an exponent, `inf`, `infinity` and `nan` in any case.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = ascii_number_text(text)?;
    let text = strip_ascii_space(&text);
    if !text.contains('_') {
        // Past spaces and underscores, Rust's grammar is Python's, and both round to nearest.
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let between_digits = |at: usize| {
        at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    if !(0..bytes.len()).all(|at| bytes[at] != b'_' || between_digits(at)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// Writes `repr(x)`: the shortest digits that give `x` back, fixed from 1e-4 below 1e16, else with an exponent of at
/// least two digits.
pub(crate) fn write_float(x: f64, out: &mut impl fmt::Write) -> fmt::Result {
    if x.is_nan() {
        return out.write_str("nan");
    }
    if x.is_infinite() {
        return out.write_str(if x > 0.0 { "inf" } else { "-inf" });
    }
    // Rust's shortest digits are Python's; only their arrangement differs.
    let scientific = format!("{x:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return out.write_str(&scientific) };
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    if (-4..16).contains(&exponent) {
        let fixed = x.to_string();
        out.write_str(&fixed)?;
        return if fixed.contains('.') { Ok(()) } else { out.write_str(".0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{mantissa}e{sign}{:02}", exponent.abs())
}

/// Python's `left % right` of floats: the sign is the divisor's. The divisor isn't zero.
pub(crate) fn remainder(left: f64, right: f64) -> f64 {
    let truncated = left % right;
    if truncated == 0.0 {
        return 0.0_f64.copysign(right);
    }
    if (right < 0.0) == (truncated < 0.0) { truncated } else { truncated + right }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repr(x: f64) -> String {
        let mut text = String::new();
        write_float(x, &mut text).expect("writes");
        text
    }

    #[test]
    fn repr_is_pythons() {
        for (x, text) in [
            (10.0, "10.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e22, "1e+22"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e-7, "1e-07"),
            (1e-4, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (31.546_309_261_852_368, "31.546309261852368"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(repr(x), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn repr_gives_the_float_back(bits: u64) {
            let x = f64::from_bits(bits);
            let back = parse_float(&repr(x)).expect("a float's text is a float");
            proptest::prop_assert!(back.to_bits() == x.to_bits() || x.is_nan() && back.is_nan());
        }

        #[test]
        fn a_remainder_has_the_divisors_sign(left: i32, right: i32) {
            proptest::prop_assume!(right != 0);
            let (left, right) = (i64::from(left), i64::from(right));
            let floored = left - right * (left as f64 / right as f64).floor() as i64;
            proptest::prop_assert_eq!(remainder(left as f64, right as f64), floored as f64);
        }
    }

    #[test]
    fn what_float_accepts() {
        for (text, x) in [
            ("1e1", 10.0),
            (" 1_0.5 ", 10.5),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("INF", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("١.٥", 1.5),
            ("1_0e1_0", 1e11),
        ] {
            assert_eq!(parse_float(text), Some(x), "{text:?}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        for text in [
            "", " ", "1__0", "_1", "1_", "1_.5", "1._5", "1e_5", "50%", "0x1p3", "1 2", ".", "e5", "1e",
            "in_f",
        ] {
            assert_eq!(parse_float(text), None, "{text:?}");
        }
    }

    #[test]
    fn remainder_is_floored() {
        assert_eq!(remainder(-3.0, 2.0), 1.0);
        assert_eq!(remainder(3.0, -2.0), -1.0);
        assert_eq!(remainder(5.0, f64::INFINITY), 5.0);
        assert_eq!(remainder(-5.0, f64::INFINITY), f64::INFINITY);
        assert!(remainder(1.0, f64::NAN).is_nan());
        assert!(remainder(-4.0, 2.0).is_sign_positive());
    }
}
