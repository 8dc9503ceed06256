//! Boolean expressions in SQL, folded as they are built.

/// A boolean expression: of type UInt8, and never NULL unless it says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expr {
    /// The same for every row.
    Const(bool),
    /// SQL that can stand as an argument.
    Sql(String),
}

impl Expr {
    pub(super) const FALSE: Self = Self::Const(false);
    pub(super) const TRUE: Self = Self::Const(true);

    pub(super) fn sql(text: impl Into<String>) -> Self {
        Self::Sql(text.into())
    }

    /// All hold.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::fold(parts, "and", true)
    }

    /// One holds at least.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::fold(parts, "or", false)
    }

    /// `neutral` parts say nothing; one part of the other truth value decides.
    fn fold(parts: impl IntoIterator<Item = Self>, function: &str, neutral: bool) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for part in parts {
            match part {
                Self::Const(value) if value == neutral => {}
                Self::Const(_) => return Self::Const(!neutral),
                Self::Sql(text) if texts.contains(&text) => {}
                Self::Sql(text) => texts.push(text),
            }
        }
        match texts.len() {
            0 => Self::Const(neutral),
            1 => Self::Sql(texts.remove(0)),
            _ => Self::Sql(format!("{function}({})", texts.join(", "))),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(!value),
            Self::Sql(text) => Self::Sql(format!("not({text})")),
        }
    }

    /// `yes` where the condition holds, else `no`.
    pub(super) fn choose(condition: &str, yes: Self, no: Self) -> Self {
        match (yes, no) {
            (yes, no) if yes == no => yes,
            (Self::Const(true), Self::Const(false)) => Self::sql(condition),
            (yes, no) => Self::Sql(format!("if({condition}, {}, {})", yes.text(), no.text())),
        }
    }

    /// False where a part of it is NULL.
    pub(super) fn or_false(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(value),
            Self::Sql(text) => Self::Sql(format!("ifNull({text}, 0)")),
        }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Const(_) => 1,
            Self::Sql(text) => text.len(),
        }
    }

    /// Its SQL.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Const(true) => "1".to_owned(),
            Self::Const(false) => "0".to_owned(),
            Self::Sql(text) => text.clone(),
        }
    }
}

/// What is known of a verdict: the verdict itself, or what lies below and above it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Bounds {
    Exact(Expr),
    Between {
        /// True only where the verdict is true.
        lower: Expr,
        /// True wherever the verdict is true.
        upper: Expr,
        /// Why it can't be said exactly.
        reason: String,
    },
}

impl Bounds {
    /// A verdict that SQL can't say at all.
    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self::between(Expr::FALSE, Expr::TRUE, reason)
    }

    pub(super) fn between(lower: Expr, upper: Expr, reason: impl Into<String>) -> Self {
        if lower == upper {
            Self::Exact(lower)
        } else {
            Self::Between { lower, upper, reason: reason.into() }
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Exact(expr) => Self::Exact(expr.negated()),
            Self::Between { lower, upper, reason } => {
                Self::Between { lower: upper.negated(), upper: lower.negated(), reason }
            }
        }
    }

    pub(super) fn all(parts: Vec<Self>) -> Self {
        Self::combine(parts, Expr::all)
    }

    pub(super) fn any(parts: Vec<Self>) -> Self {
        Self::combine(parts, Expr::any)
    }

    /// `yes` where the condition holds, else `no`.
    pub(super) fn choose(condition: &str, yes: Self, no: Self) -> Self {
        Self::combine(vec![yes, no], |parts| {
            let mut parts = parts.into_iter();
            let (yes, no) = (parts.next(), parts.next());
            Expr::choose(condition, yes.unwrap_or(Expr::FALSE), no.unwrap_or(Expr::FALSE))
        })
    }

    /// Both ends are monotone in their parts', so each end is made of the parts' same ends.
    fn combine(parts: Vec<Self>, combine: impl Fn(Vec<Expr>) -> Expr) -> Self {
        let mut lowers = Vec::with_capacity(parts.len());
        let mut uppers = Vec::with_capacity(parts.len());
        let mut first_reason = None;
        for part in parts {
            match part {
                Self::Exact(expr) => {
                    lowers.push(expr.clone());
                    uppers.push(expr);
                }
                Self::Between { lower, upper, reason } => {
                    lowers.push(lower);
                    uppers.push(upper);
                    first_reason.get_or_insert(reason);
                }
            }
        }
        match first_reason {
            None => Self::Exact(combine(uppers)),
            Some(reason) => Self::between(combine(lowers), combine(uppers), reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> Expr {
        Expr::sql(text)
    }

    #[test]
    fn constants_are_folded() {
        assert_eq!(Expr::all([Expr::TRUE, sql("a"), Expr::TRUE]), sql("a"));
        assert_eq!(Expr::all([sql("a"), Expr::FALSE]), Expr::FALSE);
        assert_eq!(Expr::any([sql("a"), sql("b"), sql("a")]), sql("or(a, b)"));
        assert_eq!(Expr::any([]), Expr::FALSE);
        assert_eq!(Expr::choose("c", sql("a"), sql("a")), sql("a"));
        assert_eq!(Expr::choose("c", Expr::TRUE, Expr::FALSE), sql("c"));
        assert_eq!(Expr::choose("c", Expr::FALSE, sql("b")), sql("if(c, 0, b)"));
    }

    #[test]
    fn negation_turns_bounds_around() {
        let part = Bounds::between(sql("l"), sql("u"), "why");
        let none = Bounds::any(vec![part, Bounds::Exact(sql("e"))]).negated();
        assert_eq!(none, Bounds::between(sql("not(or(u, e))"), sql("not(or(l, e))"), "why"));
        let decided = Bounds::all(vec![Bounds::unknown("why"), Bounds::Exact(Expr::FALSE)]);
        assert_eq!(decided, Bounds::Exact(Expr::FALSE), "what can't be said doesn't matter here");
    }
}
