//! Values as DynamoDB keeps them: numbers normalised, sizes counted, what it refuses refused.
//!
//! Rules: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html> and
//! `CapacityUnitCalculations` of the same guide.

use rollcall_model::{Attribute, Item};

use super::error::ApiError;

/// An item's upper limit.
pub(crate) const ITEM_BYTES_MAX: u64 = 400 * 1024;
const DIGITS_MAX: usize = 38;
const EXPONENT_MAX: i64 = 125;
const EXPONENT_MIN: i64 = -130;
/// Lists and maps may be nested so deep.
const DEPTH_MAX: usize = 32;

/// The item as it will be kept.
pub(crate) fn kept(item: Item) -> Result<Item, ApiError> {
    item.into_iter().map(|(name, value)| Ok((name, kept_value(value, DEPTH_MAX)?))).collect()
}

fn kept_value(value: Attribute, depth: usize) -> Result<Attribute, ApiError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(ApiError::validation(
            "Nesting Levels have exceeded supported limits: attributes are nested too deep",
        ));
    };
    Ok(match value {
        Attribute::N(text) => Attribute::N(number(&text)?),
        Attribute::M(map) => Attribute::M(
            map.into_iter()
                .map(|(name, value)| Ok((name, kept_value(value, depth)?)))
                .collect::<Result<Item, ApiError>>()?,
        ),
        Attribute::L(list) => {
            Attribute::L(list.into_iter().map(|value| kept_value(value, depth)).collect::<Result<_, _>>()?)
        }
        Attribute::Ns(numbers) => {
            Attribute::Ns(set(numbers)?.into_iter().map(|text| number(&text)).collect::<Result<Vec<_>, _>>()?)
        }
        Attribute::Ss(texts) => Attribute::Ss(set(texts)?),
        Attribute::Bs(texts) => Attribute::Bs(set(texts)?),
        Attribute::Unknown(_) => {
            return Err(ApiError::validation(
                "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
            ));
        }
        Attribute::S(_) | Attribute::B(_) | Attribute::Bool(_) | Attribute::Null => value,
    })
}

fn set(mut members: Vec<String>) -> Result<Vec<String>, ApiError> {
    if members.is_empty() {
        return Err(ApiError::validation(
            "One or more parameter values were invalid: An string set  may not be empty",
        ));
    }
    members.sort_unstable();
    if members.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ApiError::validation(
            "One or more parameter values were invalid: Input collection contains duplicates.",
        ));
    }
    Ok(members)
}

/// A number without leading and trailing zeros, written out.
pub(crate) fn number(text: &str) -> Result<String, ApiError> {
    let wrong =
        || ApiError::validation(format!("The parameter cannot be converted to a numeric value: {text}"));
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(wrong()),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| wrong())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())
    {
        return Err(wrong());
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok("0".to_owned());
    }
    // The value is 0.significant × 10^point.
    let leading = i64::try_from(digits.len() - significant.len()).unwrap_or(i64::MAX);
    let point =
        i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_sub(leading).saturating_add(exponent);
    let significant = significant.trim_end_matches('0');
    limits(significant.len(), point)?;
    Ok(written_out(negative, significant, point))
}

fn limits(digits: usize, point: i64) -> Result<(), ApiError> {
    if digits > DIGITS_MAX {
        return Err(ApiError::validation("Attempting to store more than 38 significant digits in a Number"));
    }
    if point - 1 > EXPONENT_MAX {
        return Err(ApiError::validation(
            "Number overflow. Attempting to store a number with magnitude larger than supported range",
        ));
    }
    if point - 1 < EXPONENT_MIN {
        return Err(ApiError::validation(
            "Number underflow. Attempting to store a number with magnitude smaller than supported range",
        ));
    }
    Ok(())
}

/// `point` is within the limits, so that this is at most some 170 characters.
fn written_out(negative: bool, significant: &str, point: i64) -> String {
    let sign = if negative { "-" } else { "" };
    let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or(0));
    let length = i64::try_from(significant.len()).unwrap_or(i64::MAX);
    if point <= 0 {
        format!("{sign}0.{}{significant}", zeros(-point))
    } else if point >= length {
        format!("{sign}{significant}{}", zeros(point - length))
    } else {
        let (whole, fraction) = significant.split_at(usize::try_from(point).unwrap_or(0));
        format!("{sign}{whole}.{fraction}")
    }
}

/// What `render` makes of items, which it writes as JSON. An attribute of a type that the model doesn't know has no value
/// there; on the wire it must have one, or it would read as one that is not there.
pub(crate) fn rendered(items: &[Option<&Item>], render: impl FnOnce() -> String) -> String {
    let mut unknown = Vec::new();
    for item in items.iter().flatten() {
        item.values().for_each(|value| unknown_types(value, &mut unknown));
    }
    unknown.iter().fold(render(), |json, name| {
        json.replace(&format!("{{\"{name}\":null}}"), &format!("{{\"{name}\":{{}}}}"))
    })
}

fn unknown_types<'a>(value: &'a Attribute, into: &mut Vec<&'a str>) {
    match value {
        Attribute::Unknown(name) => into.push(name),
        Attribute::M(map) => map.values().for_each(|value| unknown_types(value, into)),
        Attribute::L(list) => list.iter().for_each(|value| unknown_types(value, into)),
        Attribute::S(_)
        | Attribute::N(_)
        | Attribute::B(_)
        | Attribute::Bool(_)
        | Attribute::Null
        | Attribute::Ss(_)
        | Attribute::Ns(_)
        | Attribute::Bs(_) => {}
    }
}

/// How large DynamoDB counts an item.
pub(crate) fn size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| len(name) + size_of_value(value)).sum()
}

fn size_of_value(value: &Attribute) -> u64 {
    match value {
        Attribute::S(text) => len(text),
        Attribute::N(text) => size_of_number(text),
        Attribute::B(base64) => len(base64) / 4 * 3,
        Attribute::Bool(_) | Attribute::Null | Attribute::Unknown(_) => 1,
        Attribute::M(map) => 3 + size(map) + map.len() as u64,
        Attribute::L(list) => 3 + list.iter().map(|value| size_of_value(value) + 1).sum::<u64>(),
        Attribute::Ss(texts) => texts.iter().map(|text| len(text)).sum(),
        Attribute::Ns(texts) => texts.iter().map(|text| size_of_number(text)).sum(),
        Attribute::Bs(texts) => texts.iter().map(|text| len(text) / 4 * 3).sum(),
    }
}

/// Two digits a byte, and one for the exponent.
fn size_of_number(text: &str) -> u64 {
    let digits = text.bytes().filter(u8::is_ascii_digit).count() as u64;
    digits.div_ceil(2) + 1 + u64::from(text.starts_with('-'))
}

fn len(text: &str) -> u64 {
    text.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_out_without_idle_zeros() {
        for (given, kept) in [
            ("10.0", "10"),
            ("1.50", "1.5"),
            ("-0", "0"),
            ("007", "7"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("+5", "5"),
            ("-12.30e1", "-123"),
            ("0.00", "0"),
            (".5", "0.5"),
            ("100", "100"),
        ] {
            assert_eq!(number(given).unwrap(), kept, "{given}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for wrong in ["", "-", "x", "1e", "1.2.3", "0x1", "NaN", "1e126", "1e-131"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
        assert!(number(&"9".repeat(38)).is_ok());
        assert!(number(&"9".repeat(39)).is_err());
        assert!(number("9.9e125").is_ok());
        assert!(number("1e-130").is_ok());
    }
}
