//! Semantic versions in SQL: a text for each version, such that texts compare as versions do.
//!
//! ```text
//! 1.10.0-rc.2 ─▶ 00011.000210.00010;1rc 000000000012      each number with its length before it
//! 1.10.0      ─▶ 00011.000210.00010;~                     a release comes after its prereleases
//! ```
//!
//! Within a prerelease a number comes before a name (`0` before `1`), and a blank, which is below every character that
//! an identifier has, ends each, so that the shorter one comes first.

use super::expr::Expr;
use super::names::Names;
use super::number::symbol;
use crate::operators::compare::Comparison;
use crate::operators::semver::{Semver, is_digits};
use crate::python::INT_DIGITS_MAX;

/// Text beside a version.
pub(super) fn compare(comparison: Comparison, text: &str, right: &Semver<'_>, names: &mut Names<'_>) -> Expr {
    let key = names.bind_text(key(right));
    let core = names.part(core(text));
    let prerelease = names.part(prerelease(text));
    let numbers = format!(
        "arrayStringConcat(arrayMap(n -> concat(leftPad(toString(length(n)), 4, '0'), n), {core}), '.')"
    );
    let identifiers = format!(
        "arrayStringConcat(arrayMap(p -> if(match(p, '^[0-9]+$'), \
         concat('0', leftPad(toString(length(p)), 10, '0'), p), concat('1', p)), \
         splitByChar('.', {prerelease})), ' ')"
    );
    Expr::all([
        Expr::sql(is_version(text)),
        Expr::sql(format!("arrayMax(n -> length(n), {core}) <= {INT_DIGITS_MAX}")),
        Expr::sql(format!(
            "concat({numbers}, ';', if({prerelease} = '', '~', {identifiers})) {} {key}",
            symbol(comparison)
        )),
    ])
}

/// Whether text is a version with this prerelease or build text.
pub(super) fn contains(text: &str, part: &str, names: &mut Names<'_>) -> Expr {
    if part.is_empty() {
        return Expr::FALSE;
    }
    let part = names.bind_text(part);
    Expr::all([
        Expr::sql(is_version(text)),
        Expr::sql(format!("arrayMax(n -> length(n), {}) <= {INT_DIGITS_MAX}", core(text))),
        Expr::any([
            Expr::sql(format!("{} = {part}", prerelease(text))),
            Expr::sql(format!("extract({text}, '[+](.*)$') = {part}")),
        ]),
    ])
}

fn core(text: &str) -> String {
    format!("splitByChar('.', extract({text}, '^[0-9.]+'))")
}

fn prerelease(text: &str) -> String {
    format!("extract({text}, '^[0-9.]+-([0-9A-Za-z.-]+)')")
}

fn is_version(text: &str) -> String {
    const NUMBER: &str = "(0|[1-9][0-9]*)";
    const IDENTIFIER: &str = "(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)";
    const BUILD: &str = "[0-9a-zA-Z-]+";
    format!(
        "match({text}, '^{NUMBER}[.]{NUMBER}[.]{NUMBER}(-{IDENTIFIER}([.]{IDENTIFIER})*)?([+]{BUILD}([.]{BUILD})*)?$')"
    )
}

/// The operand's text.
fn key(version: &Semver<'_>) -> String {
    let numbers: Vec<String> = version.core.iter().map(|n| format!("{:04}{n}", n.len())).collect();
    let prerelease = version.prerelease.map_or_else(
        || "~".to_owned(),
        |identifiers| {
            let keys: Vec<String> = identifiers
                .split('.')
                .map(|p| if is_digits(p) { format!("0{:010}{p}", p.len()) } else { format!("1{p}") })
                .collect();
            keys.join(" ")
        },
    );
    format!("{};{prerelease}", numbers.join("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_compare_as_versions() {
        let versions = [
            "0.0.0-0",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-a",
            "1.0.0-a.1",
            "1.0.0-a.b",
            "1.0.0-a-",
            "1.0.0-rc.9",
            "1.0.0",
            "1.0.1",
            "1.9.0",
            "1.10.0",
            "99999999999999999999.0.0",
        ];
        for pair in versions.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|text| Semver::parse(text).unwrap());
            assert!(low.precedence(&high).is_lt() && key(&low) < key(&high), "{pair:?}");
        }
        assert_eq!(key(&Semver::parse("1.0.0+a").unwrap()), key(&Semver::parse("1.0.0+b").unwrap()));
    }
}
