//! Numbers against exact arithmetic, and at DynamoDB's limits.

use num_bigint::{BigInt, BigUint, Sign};
use proptest::prelude::*;
use rollcall_model::Value;

use super::super::number::value;

fn big(text: &str) -> Value {
    Value::int(text.parse().unwrap())
}

#[test]
fn the_form_does_not_matter_the_number_does() {
    let nines = "9".repeat(38);
    let cases = [
        ("10", Value::Int(10)),
        ("10.0", Value::Int(10)),
        ("+0010.", Value::Int(10)),
        ("1E+2", Value::Int(100)),
        ("1e2", Value::Int(100)),
        ("1200e-2", Value::Int(12)),
        (".5", Value::Float(0.5)),
        ("-1.50", Value::Float(-1.5)),
        ("0", Value::Int(0)),
        ("-0", Value::Int(0)),
        ("-0.00E-999999", Value::Int(0)),
        ("0e99999999999999999999", Value::Int(0)),
        ("9223372036854775807", Value::Int(i64::MAX)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        ("9223372036854775808", big("9223372036854775808")),
        (&nines, big(&nines)),
        ("1e22", big("10000000000000000000000")),
        ("0.1", Value::Float(0.1)),
        // 38 nines of a fraction: the nearest float is 1.0, and a float it stays.
        (&format!("0.{nines}"), Value::Float(1.0)),
        ("1E-130", Value::Float(1e-130)),
        ("-1E-130", Value::Float(-1e-130)),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_whole_number_is_a_float_once_it_takes_more_than_100_digits() {
    // What Python says of `map_any_value_to_context_value(Context(prec=100).create_decimal(text))`:
    // 10**99 for the first, 1e+100 for the second.
    assert_eq!(value("1E99"), Ok(big(&format!("1{}", "0".repeat(99)))));
    assert_eq!(value(&format!("1{}", "0".repeat(100))), Ok(Value::Float(1e100)));
    assert_eq!(value("-123E123"), Ok(Value::Float(-1.23e125)));
    assert_eq!(value(&format!("{}E88", "9".repeat(38))), Ok(Value::Float(1e126)));
}

#[test]
fn what_dynamodb_never_writes_is_refused_with_the_reason() {
    let digits = "1".repeat(39);
    let long = "0".repeat(513);
    let cases = [
        (digits.as_str(), "38 digits"),
        ("1E126", "1E-130 to 9.99E+125"),
        ("-10E125", "1E-130 to 9.99E+125"),
        ("9.9E-131", "1E-130 to 9.99E+125"),
        ("1e99999999999999999999", "1E-130 to 9.99E+125"),
        ("1e-99999999999999999999", "1E-130 to 9.99E+125"),
        (long.as_str(), "513 characters"),
        ("", "no number"),
        (".", "no number"),
        ("e5", "no number"),
        ("1e", "no number"),
        ("1e+", "no number"),
        ("1e1.5", "no number"),
        ("1.2.3", "no number"),
        ("--1", "no number"),
        ("+-1", "no number"),
        (" 1", "no number"),
        ("1_0", "no number"),
        ("0x10", "no number"),
        ("NaN", "no number"),
        ("Infinity", "no number"),
        ("\u{0661}", "no number"),
    ];
    for (text, said) in cases {
        let reason = value(text).unwrap_err();
        assert!(reason.contains(said), "{text}: {reason}");
    }
    assert!(value(&"0".repeat(512)).is_ok());
}

// ---- exact arithmetic -------------------------------------------------------------------------------------------

/// A fraction of whole numbers, the denominator positive.
struct Exact {
    over: BigInt,
    under: BigInt,
}

fn ten(power: u32) -> BigInt {
    BigInt::from(10).pow(power)
}
fn size(number: &BigInt) -> BigUint {
    number.magnitude().clone()
}

impl Exact {
    /// `digits` × 10^`exponent`.
    fn decimal(digits: &BigInt, exponent: i64) -> Self {
        let power = ten(exponent.unsigned_abs() as u32);
        if exponent < 0 {
            Self { over: digits.clone(), under: power }
        } else {
            Self { over: digits * power, under: BigInt::from(1) }
        }
    }
    /// What a float is, exactly.
    fn float(x: f64) -> Self {
        let bits = x.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let exponent = (bits >> 52 & 0x7ff) as i64;
        let (mantissa, exponent) =
            if exponent == 0 { (fraction, -1_074) } else { (fraction | 1 << 52, exponent - 1_075) };
        let sign = if x.is_sign_negative() { Sign::Minus } else { Sign::Plus };
        let mantissa = BigInt::from_biguint(sign, mantissa.into());
        let power = BigInt::from(2).pow(exponent.unsigned_abs() as u32);
        if exponent < 0 {
            Self { over: mantissa, under: power }
        } else {
            Self { over: mantissa * power, under: BigInt::from(1) }
        }
    }
    /// How far two are apart, over the denominator `self.under * other.under`.
    fn apart(&self, other: &Self) -> BigUint {
        size(&(&self.over * &other.under - &other.over * &self.under))
    }
    fn whole(&self) -> Option<BigInt> {
        (&self.over % &self.under == BigInt::ZERO).then(|| &self.over / &self.under)
    }
    /// Whether this lies below `other` in size.
    fn below(&self, other: &Self) -> bool {
        size(&(&self.over * &other.under)) < size(&(&other.over * &self.under))
    }
}

/// The significant digits of a whole number.
fn significant(number: &BigInt) -> usize {
    let mut number = size(number);
    while number != BigUint::ZERO && &number % 10_u8 == BigUint::ZERO {
        number /= 10_u8;
    }
    if number == BigUint::ZERO { 0 } else { number.to_string().len() }
}

/// Whether no float is nearer to `exact` than `x`, and at a tie `x` is the even one.
fn is_nearest(exact: &Exact, x: f64) -> bool {
    let distance = |float: f64| {
        let float = Exact::float(float);
        (exact.apart(&float), float.under)
    };
    let (own, own_under) = distance(x);
    [x.next_up(), x.next_down()].into_iter().all(|neighbour| {
        let (other, other_under) = distance(neighbour);
        let (own, other) = (&own * size(&other_under), other * size(&own_under));
        own < other || own == other && x.to_bits().is_multiple_of(2)
    })
}

/// A text, and what it is made of: its digits without the point, and the power of ten of the last.
fn number_text() -> impl Strategy<Value = (String, BigInt, i64)> {
    let digits = || prop_oneof!["0{0,9}", "[0-9]{0,3}", "[0-9]{17,24}", "[0-9]{36,39}", "[1-9]0{0,130}"];
    let exponent = prop_oneof![Just(None), (-3_i64..4).prop_map(Some), (-170_i64..170).prop_map(Some)];
    (prop_oneof![Just(""), Just("-"), Just("+")], digits(), prop::option::of(digits()), exponent)
        .prop_filter("no digit", |(_, whole, fraction, _)| {
            !whole.is_empty() || fraction.as_ref().is_some_and(|digits| !digits.is_empty())
        })
        .prop_map(|(sign, whole, fraction, exponent)| {
            let mut text = format!("{sign}{whole}");
            let fraction = fraction.map_or(String::new(), |digits| {
                text.push('.');
                text.push_str(&digits);
                digits
            });
            if let Some(exponent) = exponent {
                text.push_str(&format!("e{exponent}"));
            }
            let digits: BigInt = format!("{whole}{fraction}").parse().unwrap();
            let digits = if sign == "-" { -digits } else { digits };
            (text, digits, exponent.unwrap_or(0) - fraction.len() as i64)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_number_is_what_exact_arithmetic_says((text, digits, exponent) in number_text()) {
        let exact = Exact::decimal(&digits, exponent);
        let is_zero = digits == BigInt::ZERO;
        let one = BigInt::from(1);
        let allowed = is_zero
            || significant(&digits) <= 38
                && !exact.below(&Exact::decimal(&one, -130))
                && exact.below(&Exact::decimal(&one, 126));
        let read = value(&text);
        prop_assert_eq!(read.is_ok(), allowed, "{}: {:?}", text, read);
        let Ok(read) = read else { return Ok(()) };
        match exact.whole() {
            Some(whole) if exact.below(&Exact::decimal(&one, 100)) => {
                prop_assert_eq!(read, Value::int(whole), "{}", text);
            }
            Some(_) | None => {
                let Value::Float(x) = read else { panic!("{text}: expected a float, got {read:?}") };
                prop_assert!(is_nearest(&exact, x), "{} read as {:e}", text, x);
                prop_assert_eq!(x.is_sign_negative(), exact.over.sign() == Sign::Minus);
            }
        }
    }
}
