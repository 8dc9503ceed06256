//! Semantic versions 2.0 as the Python package `semver` reads and orders them.

use std::cmp::Ordering;

use crate::python::INT_DIGITS_MAX;

/// A version, borrowed from its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Semver<'a> {
    /// Major, minor, patch: digits without leading zeros.
    pub(crate) core: [&'a str; 3],
    /// After `-`.
    pub(crate) prerelease: Option<&'a str>,
    /// After `+`; no part of the order.
    pub(super) build: Option<&'a str>,
}

impl<'a> Semver<'a> {
    /// The strict form only: `1.2`, `v1.2.3` and `1.2.03` are none.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (numbers, prerelease) = match text.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease)),
            None => (text, None),
        };
        let mut parts = numbers.split('.');
        let core = [parts.next()?, parts.next()?, parts.next()?];
        // Longer numbers fit the grammar, but `int()` refuses them.
        let number = |digits: &str| is_number(digits) && digits.len() <= INT_DIGITS_MAX;
        let valid = parts.next().is_none()
            && core.into_iter().all(number)
            && prerelease.is_none_or(|text| text.split('.').all(is_prerelease_identifier))
            && build.is_none_or(|text| text.split('.').all(is_identifier));
        valid.then_some(Self { core, prerelease, build })
    }

    /// Precedence by the specification: a prerelease comes before its release, build metadata says nothing.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let core = || self.core.iter().zip(other.core).map(|(a, b)| compare_numbers(a, b));
        match core().find(|ordering| ordering.is_ne()) {
            Some(ordering) => ordering,
            None => match (self.prerelease, other.prerelease) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) => compare_prereleases(a, b),
            },
        }
    }
}

pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    is_digits(text) && (text.len() == 1 || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_prerelease_identifier(text: &str) -> bool {
    is_number(text) || (is_identifier(text) && !is_digits(text))
}

/// Numbers without leading zeros: the longer is the greater.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn compare_prereleases(a: &str, b: &str) -> Ordering {
    let mut b_parts = b.split('.');
    for part in a.split('.') {
        let Some(other) = b_parts.next() else { return Ordering::Greater };
        let ordering = match (is_digits(part), is_digits(other)) {
            (true, true) => compare_numbers(part, other),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => part.cmp(other),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    if b_parts.next().is_some() { Ordering::Less } else { Ordering::Equal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_order() {
        let ordered = [
            "0.0.0-0",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
            "99999999999999999999.0.0",
        ];
        let versions: Vec<_> = ordered.iter().map(|text| Semver::parse(text).expect(text)).collect();
        for (i, a) in versions.iter().enumerate() {
            for (j, b) in versions.iter().enumerate() {
                assert_eq!(a.precedence(b), i.cmp(&j), "{} {}", ordered[i], ordered[j]);
            }
        }
    }

    #[test]
    fn only_strict_versions_parse() {
        for text in ["1.2.3", "1.2.3-a-b.0", "1.2.3+01.-", "1.2.3--", "0.0.0-0a", "1.2.3-x+y-z"] {
            assert!(Semver::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "1",
            "1.2",
            "v1.2.3",
            "1.2.3.4",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3+",
            "1.2.3 ",
            "1.2.3\n",
            "1.2.3-é",
            "-1.2.3",
            "1.2.3+a+b",
            "١.2.3",
        ] {
            assert!(Semver::parse(text).is_none(), "{text:?}");
        }
    }
}
