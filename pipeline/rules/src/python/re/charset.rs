//! Sets of characters, compiled: what `[…]`, `\w` or a letter without regard to case accepts.

use std::sync::OnceLock;

use super::casefold::{CASED, ascii_lower, is_ascii_cased, is_cased, lower, same_upper, upper};
use super::tree::{Class, CodePoint, Flags, SetItem};
use crate::python::unicode::{is_alphanumeric, is_decimal, is_space};

/// The last character of the plane that Python keeps in a map; beyond it folding works otherwise.
const MAPPED_MAX: CodePoint = 0xffff;

/// Ranges of characters, first and last.
pub(super) type Ranges = Vec<(CodePoint, CodePoint)>;

/// How a character of the text is folded before it is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fold {
    None,
    Ascii,
    Unicode,
}

impl Fold {
    pub(super) fn of(flags: Flags) -> Self {
        if !flags.has(Flags::IGNORE_CASE) {
            Self::None
        } else if flags.has(Flags::UNICODE) {
            Self::Unicode
        } else {
            Self::Ascii
        }
    }

    pub(super) fn apply(self, code: CodePoint) -> CodePoint {
        match self {
            Self::None => code,
            Self::Ascii => ascii_lower(code),
            Self::Unicode => lower(code),
        }
    }

    fn is_cased(self, code: CodePoint) -> bool {
        match self {
            Self::None => false,
            Self::Ascii => is_ascii_cased(code),
            Self::Unicode => is_cased(code),
        }
    }

    fn same_upper(self, lower: CodePoint) -> &'static [CodePoint] {
        match self {
            Self::None | Self::Ascii => &[],
            Self::Unicode => same_upper(lower),
        }
    }
}

/// `\d`, `\s` or `\w` of an alphabet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Category {
    class: Class,
    negated: bool,
    ascii: bool,
}

impl Category {
    /// All that it accepts. Every character there is was asked once: that takes many milliseconds.
    fn ranges(self) -> &'static Ranges {
        static RANGES: [OnceLock<Ranges>; 12] = [const { OnceLock::new() }; 12];
        let class = match self.class {
            Class::Digit => 0,
            Class::Space => 1,
            Class::Word => 2,
        };
        RANGES[class * 4 + usize::from(self.ascii) * 2 + usize::from(self.negated)].get_or_init(|| {
            let all = ('\0'..=char::MAX).map(u32::from);
            let accepted = all.filter(|code| Self { negated: false, ..self }.holds(*code));
            let ranges = merged(accepted.map(|code| (code, code)).collect());
            if self.negated { without(&[(0, u32::from(char::MAX))], &ranges) } else { ranges }
        })
    }

    fn holds(self, code: CodePoint) -> bool {
        let Some(c) = char::from_u32(code) else { return self.negated };
        let holds = match (self.class, self.ascii) {
            (Class::Digit, true) => c.is_ascii_digit(),
            (Class::Digit, false) => is_decimal(c),
            (Class::Space, true) => matches!(c, '\t'..='\r' | ' '),
            (Class::Space, false) => is_space(c),
            (Class::Word, ascii) => is_word(c, ascii),
        };
        holds != self.negated
    }
}

/// Whether a character lies in one of these ranges, which are sorted.
fn within(ranges: &[(CodePoint, CodePoint)], code: CodePoint) -> bool {
    let after = ranges.partition_point(|(low, _)| *low <= code);
    after > 0 && code <= ranges[after - 1].1
}

/// The ranges sorted, those that touch joined.
fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some((_, end)) if low <= end.saturating_add(1) => *end = high.max(*end),
            Some(_) | None => merged.push((low, high)),
        }
    }
    merged.shrink_to_fit();
    merged
}

/// What lies in the first ranges and in none of the others; both are sorted and merged.
fn without(ranges: &[(CodePoint, CodePoint)], others: &[(CodePoint, CodePoint)]) -> Ranges {
    let mut left = Ranges::new();
    for &(mut low, high) in ranges {
        let after = others.partition_point(|(_, end)| *end < low);
        for &(taken, end) in others[after..].iter().take_while(|(taken, _)| *taken <= high) {
            if low < taken {
                left.push((low, taken - 1));
            }
            low = end.saturating_add(1);
        }
        if low <= high {
            left.push((low, high));
        }
    }
    left
}

/// What `\w` accepts and `\b` bounds.
pub(super) fn is_word(c: char, ascii: bool) -> bool {
    c == '_' || if ascii { c.is_ascii_alphanumeric() } else { is_alphanumeric(c) }
}

/// A compiled set.
#[derive(Clone, Debug)]
pub(super) struct CharSet {
    fold: Fold,
    negated: bool,
    /// Sorted, without overlaps.
    ranges: Vec<(CodePoint, CodePoint)>,
    /// Ranges beyond the mapped plane under folding: the character or its upper case lies within.
    either_case: Vec<(CodePoint, CodePoint)>,
    categories: Vec<Category>,
    /// The verdicts for ASCII, one bit each.
    ascii: u128,
    /// What folding it has cost, in letters.
    pub(super) folded: usize,
}

impl CharSet {
    /// A set of several items.
    pub(super) fn of_items(items: &[SetItem], negated: bool, flags: Flags) -> Self {
        let fold = Fold::of(flags);
        let mut set = Self {
            fold,
            negated,
            ranges: vec![],
            either_case: vec![],
            categories: vec![],
            ascii: 0,
            folded: 0,
        };
        for item in items {
            match item {
                SetItem::Category { class, negated } => {
                    let ascii = !flags.has(Flags::UNICODE);
                    set.categories.push(Category { class: *class, negated: *negated, ascii });
                }
                SetItem::Literal(code) => set.ranges.push((*code, *code)),
                SetItem::Range(low, high) if fold != Fold::None && *high > MAPPED_MAX && low < high => {
                    set.either_case.push((*low, *high));
                }
                SetItem::Range(low, high) => set.ranges.push((*low, *high)),
            }
        }
        if fold != Fold::None {
            set.fold_case(fold);
        }
        set.finished()
    }

    /// Adds what the cased characters of its ranges fold to. Those themselves may stay: no character folds to them.
    fn fold_case(&mut self, fold: Fold) {
        self.ranges = merged(std::mem::take(&mut self.ranges));
        self.either_case = merged(std::mem::take(&mut self.either_case));
        let mut folded = Vec::new();
        for (low, high) in self.ranges.iter().chain(&self.either_case) {
            let cased = CASED.partition_point(|code| code < low)..CASED.partition_point(|code| code <= high);
            for code in CASED[cased].iter().filter(|code| fold.is_cased(**code)) {
                let lower = fold.apply(*code);
                folded.push((lower, lower));
                folded.extend(fold.same_upper(lower).iter().map(|same| (*same, *same)));
            }
        }
        // Without a cased character in it, Python looks the text's characters up as they are; those beyond the mapped
        // plane count as cased.
        let beyond = self.ranges.last().is_some_and(|(_, high)| *high > MAPPED_MAX);
        if !folded.is_empty() || beyond || !self.either_case.is_empty() {
            self.fold = fold;
        } else {
            self.fold = Fold::None;
        }
        self.folded = folded.len();
        self.ranges.extend(folded);
    }

    /// One character, perhaps negated, without regard to case; `None` when case plays no part.
    pub(super) fn of_letter(code: CodePoint, negated: bool, flags: Flags) -> Option<Self> {
        let fold = Fold::of(flags);
        if !fold.is_cased(code) {
            return None;
        }
        let folded = fold.apply(code);
        let ranges =
            std::iter::once(folded).chain(fold.same_upper(folded).iter().copied()).map(|c| (c, c)).collect();
        Some(
            Self { fold, negated, ranges, either_case: vec![], categories: vec![], ascii: 0, folded: 0 }
                .finished(),
        )
    }

    fn finished(mut self) -> Self {
        self.ranges = merged(std::mem::take(&mut self.ranges));
        self.ascii = (0..128).filter(|code| self.looked_up(*code)).fold(0, |bits, code| bits | 1 << code);
        self
    }

    /// Whether it accepts a character.
    pub(super) fn accepts(&self, code: CodePoint) -> bool {
        if code < 128 { self.ascii >> code & 1 == 1 } else { self.looked_up(code) }
    }

    /// All that it accepts, in order; `folded` are the characters that aren't their own lower case, by it, for ASCII and
    /// for Unicode. `None` for a range beyond the mapped plane under folding.
    pub(super) fn accepted(&self, folded: &[Ranges; 2]) -> Option<Ranges> {
        if !self.either_case.is_empty() {
            return None;
        }
        let mut found = self.ranges.clone();
        for category in &self.categories {
            found.extend(category.ranges());
        }
        let mut found = merged(found);
        let pairs: &[(CodePoint, CodePoint)] = match self.fold {
            Fold::None => &[],
            Fold::Ascii => &folded[0],
            Fold::Unicode => &folded[1],
        };
        if !pairs.is_empty() {
            let holds = |code: CodePoint| within(&found, code);
            let by_lower: Ranges =
                pairs.iter().filter(|(lower, _)| holds(*lower)).map(|(_, code)| (*code, *code)).collect();
            let mut upper: Ranges = pairs.iter().map(|(_, code)| (*code, *code)).collect();
            upper.sort_unstable();
            found = without(&found, &merged(upper));
            found.extend(by_lower);
            found = merged(found);
        }
        Some(if self.negated { without(&[(0, u32::from(char::MAX))], &found) } else { found })
    }

    fn looked_up(&self, code: CodePoint) -> bool {
        let code = self.fold.apply(code);
        let found = within(&self.ranges, code)
            || !self.either_case.is_empty()
                && (within(&self.either_case, code) || within(&self.either_case, upper(code)))
            || self.categories.iter().any(|category| category.holds(code));
        found != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// What a range accepts as the definition has it, character by character.
    fn plainly(low: CodePoint, high: CodePoint, fold: Fold) -> impl Fn(CodePoint) -> bool {
        let mut accepted: HashSet<CodePoint> = HashSet::new();
        let mut cased = high > MAPPED_MAX;
        for member in low..=high.min(MAPPED_MAX) {
            accepted.insert(fold.apply(member));
            accepted.extend(fold.same_upper(fold.apply(member)));
            cased |= fold.is_cased(member);
        }
        move |code| {
            let code = if cased { fold.apply(code) } else { code };
            let beyond = |code| high > MAPPED_MAX && (low..=high).contains(&code);
            accepted.contains(&code) || beyond(code) || low < high && beyond(upper(code))
        }
    }

    #[test]
    fn folding_ranges_equals_folding_each_character() {
        for (low, high) in [
            (0x30, 0x39),
            (0x40, 0x2000),
            (0x41, 0x5a),
            (0x6b, 0x6b),
            (0x130, 0x17f),
            (0x390, 0x3d6),
            (0x1e9b, 0x1fbe),
            (0x212a, 0x212b),
            (0xfb05, 0xfb06),
            (0xfff0, 0x1_0010),
            (0x1_0400, 0x1_0400),
            (0x1_0400, 0x1_0427),
            (0, 0xffff),
        ] {
            for alphabet in [Flags::UNICODE, Flags::ASCII] {
                let flags = Flags::IGNORE_CASE.with(alphabet);
                let set = CharSet::of_items(&[SetItem::Range(low, high)], false, flags);
                let accepts = plainly(low, high, Fold::of(flags));
                for code in 0..0x1_0450 {
                    assert_eq!(set.accepts(code), accepts(code), "{low:x}-{high:x} {code:x}");
                }
            }
        }
    }

    #[test]
    fn no_character_folds_to_one_that_folds_on() {
        for code in 0..0x11_0000 {
            for fold in [Fold::Ascii, Fold::Unicode] {
                assert_eq!(fold.apply(fold.apply(code)), fold.apply(code), "{code:x}");
            }
        }
    }
}
