//! A number of an item → a value.
//!
//! ```text
//!  "+010.50E1" ─▶ ±digits × 10^exponent ─▶ within DynamoDB's limits? ─▶ as DynamoDB gives it back ─▶ as the platform reads it
//!                 no zeros at either end     38 digits, 1E-130…9.9E+125    "105": no exponent           whole: int, else float
//! ```
//!
//! DynamoDB keeps the number, not the text: it drops zeros at both ends, expands exponents, and `-0` is `0`. So `10.0`
//! comes back as `10`, and `1E+2` as `100`. Exports, streams and emulators are not trusted to have done so: whatever
//! form comes in, the value is that of DynamoDB's own form.
//!
//! The platform reads that form as a `Decimal` of 100 digits (`DYNAMODB_CONTEXT = Context(prec=100)`), and takes one
//! without an exponent for an int, any other for a float. So a fraction is a float, and so is a whole number that takes
//! more than 100 digits to write: that one is rounded to 100 digits and gets an exponent.

use num_bigint::BigInt;
use rollcall_model::Value;

/// The significant digits that DynamoDB keeps.
const DIGITS_MAX: usize = 38;
/// The power of ten of the first digit: 1E-130 to 9.99…E+125.
const POWERS: std::ops::RangeInclusive<i64> = -130..=125;
/// Whole numbers of more digits are floats to the platform.
const WHOLE_DIGITS_MAX: i64 = 100;
/// The longest text that is looked at. DynamoDB's own longest is 170: a sign, `0.`, 129 zeros and 38 digits.
const TEXT_BYTES_MAX: usize = 512;

/// `digits` × 10^`exponent`, without zeros at either end of `digits`; zero has none.
struct Number {
    negative: bool,
    digits: String,
    exponent: i64,
}

/// The value of a number's text; what is beyond DynamoDB's limits was never written there.
pub(super) fn value(text: &str) -> Result<Value, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("holds a number of {} characters, which DynamoDB never writes", text.len()));
    }
    let number = parse(text).ok_or_else(|| format!("holds '{text}', which is no number"))?;
    let Some(power) = number.power() else { return Ok(Value::Int(0)) };
    if number.digits.len() > DIGITS_MAX {
        return Err(format!(
            "holds '{text}', which has more than the {DIGITS_MAX} digits that DynamoDB keeps"
        ));
    }
    if !POWERS.contains(&power) {
        return Err(format!("holds '{text}', which is beyond DynamoDB's 1E-130 to 9.99E+125"));
    }
    let sign = if number.negative { "-" } else { "" };
    let (digits, exponent) = (number.digits, number.exponent);
    let broken = || format!("holds '{text}', which can't be read");
    match usize::try_from(exponent) {
        Ok(zeros) if power < WHOLE_DIGITS_MAX => {
            let whole: BigInt = format!("{sign}{digits}{:0<zeros$}", "").parse().map_err(|_| broken())?;
            Ok(Value::int(whole))
        }
        // Rounded to the nearest, to even at a tie, as `float` does it.
        Ok(_) | Err(_) => {
            format!("{sign}{digits}e{exponent}").parse().map(Value::Float).map_err(|_| broken())
        }
    }
}

/// `[+-] digits [. digits] [e [+-] digits]`, with a digit before the exponent, in ASCII.
fn parse(text: &str) -> Option<Number> {
    let (negative, unsigned) = sign(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, power_of(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !is_digits(&all) {
        return None;
    }
    let without_trailing = all.trim_end_matches('0');
    let dropped = all.len() - without_trailing.len();
    Some(Number {
        negative,
        digits: without_trailing.trim_start_matches('0').to_owned(),
        exponent: exponent - fraction.len() as i64 + dropped as i64,
    })
}

/// An exponent; one that is far beyond every limit stays so at `i32`'s ends.
fn power_of(text: &str) -> Option<i64> {
    let (negative, digits) = sign(text);
    if digits.is_empty() || !is_digits(digits) {
        return None;
    }
    let power = i64::from(digits.parse::<i32>().unwrap_or(i32::MAX));
    Some(if negative { -power } else { power })
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Number {
    /// The power of ten of its first digit; zero has none.
    fn power(&self) -> Option<i64> {
        (!self.digits.is_empty()).then(|| self.exponent + self.digits.len() as i64 - 1)
    }
}
