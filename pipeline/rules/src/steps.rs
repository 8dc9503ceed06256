//! What a judgement may cost. Regular expressions and JSONPaths are the only parts of a rule whose work can exceed the
//! size of rule and identity; both pay for it here, in steps, so that where a judgement stops never depends on a clock.

use std::cell::Cell;

/// Steps of one segment's judgement of one identity, all its conditions together: a tenth of a second at worst. Python
/// goes on for minutes or years on what needs more.
pub const JUDGEMENT_STEPS_MAX: u32 = 2_000_000;

/// What a judgement may still spend.
#[derive(Debug)]
pub(crate) struct Steps(Cell<u32>);

/// Why a judgement stopped, after "the expression '…' ".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exceeded(pub(crate) &'static str);

/// All steps are spent.
pub(crate) const STEPS: Exceeded =
    Exceeded("needs more than what is left of the 2000000 steps that a segment has for one identity");

impl Steps {
    /// A judgement's beginning.
    pub(crate) fn new() -> Self {
        Self(Cell::new(JUDGEMENT_STEPS_MAX))
    }

    /// Takes some, or all that are left.
    pub(crate) fn take(&self, steps: usize) -> Result<(), Exceeded> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.0.get().checked_sub(steps));
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(STEPS)
    }

    pub(crate) fn left(&self) -> u32 {
        self.0.get()
    }

    pub(crate) fn set_left(&self, left: u32) {
        self.0.set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_is_gone() {
        assert!(STEPS.0.contains(&JUDGEMENT_STEPS_MAX.to_string()));
        let steps = Steps::new();
        assert_eq!(steps.take(1_999_999), Ok(()));
        assert_eq!(steps.take(2), Err(STEPS));
        assert_eq!(steps.left(), 0, "a dear part leaves nothing for the next");
        assert_eq!(Steps::new().take(usize::MAX), Err(STEPS));
    }
}
