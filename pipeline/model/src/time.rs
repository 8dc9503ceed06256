//! Times of sources, as people read them.

/// Microseconds since 1970 as `2026-11-21 02:30:47.123456Z`.
#[must_use]
pub fn utc(us: i64) -> String {
    let days = us.div_euclid(86_400_000_000);
    let of_day = us.rem_euclid(86_400_000_000);
    let (year, month, day) = civil(days);
    let seconds = of_day / 1_000_000;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:06}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        of_day % 1_000_000
    )
}

/// Days since 1970-01-01 as a date of the Gregorian calendar: 400 years have 146,097 days, and a year that starts in
/// March has its leap day at the end.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// `2026-11-27T10:00:00Z`, with a fraction or a space for the `T`, as microseconds since 1970; `None` for anything else.
#[must_use]
pub fn parse_utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = digits(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = digits(time, ':', [2, 2, 2])?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let us: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let days = days_since_1970(year, month, day);
    // A date that isn't one (30 February) comes back as another.
    let is_date = civil(days) == (year, month, day);
    let is_time = hour < 24 && minute < 60 && second < 60;
    let seconds = hour * 3_600 + minute * 60 + second;
    (is_date && is_time).then_some(days * 86_400_000_000 + seconds * 1_000_000 + us)
}

fn digits(text: &str, between: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(between);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// In years that begin in March, leap days stand at the end and months follow one formula.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        for us in [0, 951_868_799_500_000, 1_795_228_247_123_456, -1, -62_167_219_200_000_000] {
            assert_eq!(parse_utc(&utc(us)), Some(us));
        }
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500_000),
            ("2026-11-21 02:30:47.123456789Z", 1_795_228_247_123_456),
        ] {
            assert_eq!(parse_utc(text), Some(us), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-27",
            "2026-11-27T10:00:00",
            "2026-11-27T10:00:00+01:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-11-27T10:60:00Z",
            "2026-11-27T10:00:60Z",
            "2026-1-27T10:00:00Z",
            "2026-11-27T10:00:00.Z",
            "2026-11-27T10:00:00.+5Z",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000000Z");
        assert_eq!(utc(-1), "1969-12-31 23:59:59.999999Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29 00:00:00.000000Z");
        assert_eq!(utc(1_795_228_247_123_456), "2026-11-21 02:30:47.123456Z");
    }
}
