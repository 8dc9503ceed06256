//! CONTAINS and NOT_CONTAINS: text within text.
//!
//! Only text contains anything: on a number, and on text that looked like one, both are false. So CONTAINS `"1"` is
//! false on `"123"`, and the two are not each other's negation.

use super::compare::SEMVER_SUFFIX;
use super::semver::Semver;
use crate::subject::Subject;

/// CONTAINS with its operand.
#[derive(Clone, Debug)]
pub(crate) enum Contains {
    /// A piece of text.
    Plain(Box<str>),
    /// The operand ended with `:semver`: a version "contains" its own prerelease and build texts, whole.
    Version(Box<str>),
}

impl Contains {
    pub(super) fn new(value: Option<&str>) -> Self {
        match value.and_then(|text| text.strip_suffix(SEMVER_SUFFIX)) {
            Some(part) => Self::Version(part.into()),
            None => Self::Plain(value.unwrap_or("None").into()),
        }
    }

    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        let Subject::Text(text) = subject else { return false };
        match self {
            Self::Plain(piece) => text.contains(&**piece),
            Self::Version(part) => Semver::parse(text)
                .is_some_and(|version| version.prerelease == Some(part) || version.build == Some(part)),
        }
    }

    pub(super) fn cast_text(&self, subject: &Subject<'_>) -> Option<String> {
        match (subject, self) {
            (Subject::Text(_), Self::Plain(text) | Self::Version(text)) => Some(text.to_string()),
            (
                Subject::Missing
                | Subject::Bool(_)
                | Subject::Int(_)
                | Subject::BigInt(_)
                | Subject::Float(_),
                Self::Plain(_) | Self::Version(_),
            ) => None,
        }
    }
}

/// NOT_CONTAINS with its operand, which here is plain text whatever its suffix.
#[derive(Clone, Debug)]
pub(crate) struct NotContains(Box<str>);

impl NotContains {
    pub(super) fn new(value: Option<&str>) -> Self {
        Self(value.unwrap_or("None").into())
    }

    pub(super) fn holds(&self, subject: &Subject<'_>) -> bool {
        matches!(subject, Subject::Text(text) if !text.contains(&*self.0))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c24_only_text_contains_or_lacks() {
        let contains = Contains::new(Some("1"));
        let lacks = NotContains::new(Some("1"));
        for subject in [Subject::Int(123), Subject::Float(1.0), Subject::Bool(true), Subject::Missing] {
            assert!(!contains.holds(&subject) && !lacks.holds(&subject));
        }
        assert!(contains.holds(&Subject::Text("a1")) && !lacks.holds(&Subject::Text("a1")));
        assert!(Contains::new(Some("")).holds(&Subject::Text("")));
        assert!(Contains::new(None).holds(&Subject::Text("a None b")));
    }

    #[test]
    fn a_version_contains_its_parts() {
        assert!(Contains::new(Some("rc.1:semver")).holds(&Subject::Text("1.0.0-rc.1")));
        assert!(!Contains::new(Some("rc:semver")).holds(&Subject::Text("1.0.0-rc.1")));
        assert!(Contains::new(Some("b7:semver")).holds(&Subject::Text("1.0.0+b7")));
        assert!(!Contains::new(Some(":semver")).holds(&Subject::Text("1.0.0")));
        assert!(NotContains::new(Some("rc.1:semver")).holds(&Subject::Text("1.0.0-rc.1")));
    }
}
