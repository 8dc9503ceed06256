//! REGEX: Python's `re.compile(operand).match(str(value))`: anchored at the start, not at the end.

use std::sync::Arc;

use crate::judge::Raised;
use crate::python::re::Pattern;
use crate::steps::{Exceeded, Steps};
use crate::subject::Subject;

/// REGEX with its operand.
#[derive(Clone, Debug)]
pub(crate) struct Regex {
    text: Box<str>,
    /// Compiled, or why it can't be.
    pattern: Result<Arc<Pattern>, String>,
}

impl Regex {
    pub(super) fn new(value: Option<&str>) -> Self {
        let text = value.unwrap_or("None");
        let pattern = Pattern::compile(text).map(Arc::new).map_err(|error| format!("the expression {error}"));
        Self { text: text.into(), pattern }
    }

    pub(super) fn unsupported(&self) -> Option<String> {
        self.pattern.as_ref().err().cloned()
    }

    /// The expression's text.
    pub(crate) fn pattern(&self) -> &str {
        &self.text
    }

    /// # Errors
    /// A pattern that Python refuses, on any value; one that needs too many steps on this value.
    pub(super) fn holds(&self, subject: &Subject<'_>, steps: &Steps) -> Result<bool, Raised> {
        if matches!(subject, Subject::Missing) {
            return Ok(false);
        }
        let pattern = self.pattern.as_ref().map_err(Raised::new)?;
        pattern.matches(&subject.to_text()?, steps).map_err(|Exceeded(reason)| {
            Raised::beyond_bound(format!("the expression '{}' {reason}", self.text))
        })
    }
}
