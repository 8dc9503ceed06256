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

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000000Z");
        assert_eq!(utc(-1), "1969-12-31 23:59:59.999999Z");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29 00:00:00.000000Z");
        assert_eq!(utc(1_795_228_247_123_456), "2026-11-21 02:30:47.123456Z");
    }
}
