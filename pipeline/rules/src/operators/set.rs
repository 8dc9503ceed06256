//! IS_SET and IS_NOT_SET.

use crate::subject::Subject;

/// Whether there is a value at all. Null isn't one; `""`, `0` and `false` are.
pub(super) fn is_set(subject: &Subject<'_>) -> bool {
    !matches!(subject, Subject::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falsy_values_are_set() {
        for subject in [Subject::Text(""), Subject::Int(0), Subject::Bool(false), Subject::Float(f64::NAN)] {
            assert!(is_set(&subject));
        }
        assert!(!is_set(&Subject::Missing));
    }
}
